"""The shape of a composed configuration, whoever wrote its parts: what is built afterwards can rely on it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.run.overrides import nearest
from privsweep.run.trust import walk

COMPONENTS = ("dataset", "model", "fl_setting", "attack")
OPTIONAL = ("prior", "tracker")
MAPPINGS = (*COMPONENTS, *OPTIONAL, "defense", "metrics", "table", "figure")
MOST = 1_000_000_000
LONGEST = 255  # of a name, on the usual file systems
_NUMBER = re.compile(r"\w+(\.\w+)*")  # of a record
SMALLEST, GREATEST = 1e-37, 1e38


def check_shape(config: Mapping[str, Any], keys: Collection[str], groups: Collection[str], chosen: Any) -> None:
    """Raises UserError with everything that is missing or unknown, or is no mapping where there must be one.

    ``keys`` are those that conf/config.yaml states, ``groups`` those with a choice, such as model, dataset@prior or one
    of the user's own, ``chosen`` the names of defences.
    """
    wrong = [f"{key}: is missing; an experiment must leave it" for key in keys if key not in config]
    known = {*keys, *MAPPINGS, *(group.rpartition("@")[2].partition("/")[0] for group in groups)}
    wrong += [f"{key}: no such key; {_meant(str(key), known)}" for key in config if key not in known]
    for key in MAPPINGS:
        value = config.get(key)
        if value is None and key in COMPONENTS:
            wrong.append(f"{key}=null: must be chosen; privsweep --help lists the choices")
        elif not (isinstance(value, Mapping) or (value is None and key != "metrics")):
            wrong.append(f"{key}={shown(value)}: must be keys with values; {_remedy(key)}")
    if isinstance(chosen, list) and isinstance(config.get("defense"), Mapping):
        wrong += [
            f"defense={name}: states nothing under defense.{name}; let its YAML begin with # @package defense.{name}"
            for name in chosen
            if name not in config["defense"]
        ]
    wrong += [
        f"{key}={shown(config.get(key))}: must name a folder, in at most {LONGEST} bytes for each"
        for key in ("data_dir", "output_dir")
        if not _names_folder(config.get(key))
    ]
    only = config.get("only")
    if only is not None and not config.get("table"):
        wrong.append(f"only={_typed(only)}: chooses columns or rows of a table; add experiment=..., or leave it out")
    elif only is not None and not (isinstance(only, list) and only and all(isinstance(c, str) for c in only)):
        wrong.append(f"only={shown(only)}: must be a list of columns or rows with one at least; write 'only=[a,b]'")
    wrong += _summary(config.get("summary"))
    if wrong:
        raise UserError(*wrong)


def _summary(names: Any) -> Iterator[str]:
    if names is None:
        return
    if not (isinstance(names, list) and names and all(isinstance(n, str) and _NUMBER.fullmatch(n) for n in names)):
        yield f"summary={shown(names)}: must be a list of names with one at least; write 'summary=[ssim,psnr]'"
    elif twice := [name for name in names if names.count(name) > 1]:
        yield f"summary=[{','.join(names)}]: names {twice[0]} twice; name it once"


def _typed(value: Any) -> str:
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list) else str(shown(value))


def _names_folder(value: Any) -> bool:
    return isinstance(value, str) and value != "" and all(len(p.encode()) <= LONGEST for p in value.split("/"))


def _remedy(key: str) -> str:
    if key in ("table", "figure"):
        return f"correct the {key} in the experiment's file"
    if key == "metrics":
        return "set metrics.paper_scale and metrics.asr_threshold"
    return f"choose one: {key}=name, or defense=[a,b]" if key == "defense" else f"choose one: {key}=name"


def strange_numbers(key: str, node: Any) -> Iterator[str]:
    """One line for each number that no computation here could use; of seeds any will do."""
    for path, value in walk(node, key):
        if isinstance(value, bool) or not isinstance(value, int | float) or path.endswith("seed"):
            continue
        if isinstance(value, int) and abs(value) > MOST:
            yield f"{path}={value}: is beyond all that can be computed here; take {MOST:,} or less"
        if isinstance(value, float) and value and not SMALLEST < abs(value) < GREATEST and math.isfinite(value):
            yield f"{path}={value}: single precision ends at {SMALLEST:.0e} and {GREATEST:.0e}; keep within"


def taken_otherwise(key: str, node: Any, made: Any) -> Iterator[str]:
    """One line for each value of ``node`` that ``made``, built from it, took for what nobody means by it.

    True and false are no numbers, and an empty path, such as that of an unset variable, is not the working folder.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from taken_otherwise(f"{key}.{name}" if key else name, value, getattr(made, name, None))
    elif isinstance(node, list) and isinstance(made, list | tuple):
        for number, (value, built) in enumerate(zip(node, made, strict=False)):
            yield from taken_otherwise(f"{key}.{number}", value, built)
    elif isinstance(node, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        yield f"{key}={shown(node)}: is no number; write one, such as {int(node)}"
    elif node == "" and isinstance(made, Path):
        yield f"{key}=: names no file or folder; name one"


def _meant(key: str, known: Collection[str]) -> str:
    """What a key that there is not may have been; ``experiment`` is where a file without its first line ends up."""
    return "let the experiment's YAML begin with # @package _global_" if key == "experiment" else nearest(key, known)
