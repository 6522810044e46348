"""Composes configurations with Hydra, and says what is wrong with one in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from privsweep.interface.errors import UserError
from privsweep.run.trust import check_hydra

_PACKAGE = Path(__file__).parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
SCALES = ("paper", "quick", "smoke")


def _at_scale(*amounts: Any, _root_: Any) -> Any:
    scale = _root_.scale
    if scale not in SCALES:
        raise UserError(f"scale={scale}: choose one of {', '.join(SCALES)}")
    if len(amounts) != len(SCALES):
        raise UserError(f"${{at_scale:...}}: takes three amounts, for {', '.join(SCALES)}; got {len(amounts)}")
    return amounts[SCALES.index(scale)]


OmegaConf.register_new_resolver("at_scale", _at_scale, replace=True)


@dataclass(frozen=True)
class Composition:
    """A composed configuration as plain data."""

    config: dict[str, Any]  # resolved, without Hydra's part
    choices: dict[str, Any]  # group -> choice, as composed
    overrides: tuple[str, ...]


@contextmanager
def searching(config_dir: str | None) -> Iterator[list[str]]:
    """Hydra's search path, outside of a Hydra job; yields the overrides that add the user's ``--config-dir``."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []


def compose(overrides: Sequence[str], extra: Sequence[str] = ()) -> Composition:
    """Composes; to be called in ``searching`` or in a Hydra job. Raises UserError."""
    try:
        cfg = hydra.compose("config", overrides=[*overrides, *extra], return_hydra_config=True)
        check_hydra(OmegaConf.to_container(cfg.hydra, resolve=False), overrides)  # type: ignore[arg-type]
        choices = {str(k): _choice(v) for k, v in cfg.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, overrides)) from error
    return Composition(config=config, choices=choices, overrides=tuple(overrides))  # type: ignore[arg-type]


def _choice(value: Any) -> Any:
    """A multi-select choice arrives as text, such as "[a,b]"."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value)
    if isinstance(value, str) and value.startswith("["):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's words in one line that names the key, the value and the remedy."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    own = next((e for e in chain if isinstance(e, UserError)), None)
    if own:
        return str(own)
    text = "\n".join(str(e) for e in chain).partition("Config search path")[0]
    missing = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if missing:
        group, choice = missing.groups()
        offered = re.findall(r"\n\t([\w.-]+)", text)
        hint = get_close_matches(choice, offered, 1)
        remedy = f"did you mean {hint[0]}? choices: " if hint else "choose one of: "
        if choice == "submitit_slurm":
            return f"{group}={choice}: the SLURM launcher is not installed; run: pip install 'privsweep[slurm]'"
        return f"{group}={choice}: no such choice; {remedy}{', '.join(offered)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if key and ("struct" in text or "not in" in text):
        return f"{key[1]}: no such key; {_nearest(key[1])}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = f"{key[1]}: " if key and key[1] not in lines[0] else ""
    return f"{named}{lines[0]}; see privsweep --help and privsweep --cfg job"


def _nearest(key: str) -> str:
    try:
        cfg = hydra.compose("config")
        keys = list(_keys(OmegaConf.to_container(cfg, resolve=False), ""))
    except (HydraException, OmegaConfBaseException):
        keys = []
    hint = get_close_matches(key, keys, 1)
    return f"did you mean {hint[0]}?" if hint else "privsweep --cfg job lists the keys"


def _keys(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield f"{path}{name}"
            yield from _keys(value, f"{path}{name}.")
