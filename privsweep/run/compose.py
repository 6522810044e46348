"""Composes configurations with Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from privsweep.interface.errors import UserError
from privsweep.interface.keys import SCALES, check_config_dir
from privsweep.run.checked_loader import CheckedLoader, without_environment
from privsweep.run.companions import as_overrides
from privsweep.run.explain import explain
from privsweep.run.overrides import USERS, parsed
from privsweep.run.shape import check_shape
from privsweep.run.trust import walk

_PACKAGE = Path(__file__).parents[1]
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
_TURN = RLock()


def _at_scale(*amounts: Any, _root_: Any) -> Any:
    scale = _root_.scale
    if scale not in SCALES:
        raise UserError(f"scale={scale}: choose one of {', '.join(SCALES)}")
    if len(amounts) == len(SCALES) - 1:  # where nothing is said for it, half is as paper
        amounts = (amounts[0], *amounts)
    if len(amounts) != len(SCALES):
        raise UserError(
            f"${{at_scale:...}}: takes amounts for {', '.join(SCALES)}, half may be left out; got {len(amounts)}"
        )
    return amounts[SCALES.index(scale)]


OmegaConf.register_new_resolver("at_scale", _at_scale, replace=True)


@dataclass(frozen=True)
class Composition:
    """A composed configuration as plain data."""

    config: dict[str, Any]  # resolved, without Hydra's part
    choices: dict[str, Any]  # group -> choice, as composed
    overrides: tuple[str, ...]
    hydra: dict[str, Any]  # Hydra's own part, resolved for a run that is no job of a sweep
    brought: Mapping[str, Sequence[str]]  # by what was typed, such as attack=iga, the overrides that it brings
    referred: frozenset[str] | None  # every word in a reference of ``config``, such as data_dir; None: any may be


@cache
def plain_defaults() -> Mapping[str, Any]:
    """conf/config.yaml as it stands."""
    made: Any = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    return MappingProxyType(made)


@contextmanager
def searching(config_dir: str | None) -> Iterator[Hydra]:
    """Hydra, searching the built-in configuration and the user's ``--config-dir``. Raises UserError.

    Threads take turns: what Hydra searches is of the whole process.
    """
    path = create_config_search_path(str(CONF))
    check_config_dir(config_dir)
    if config_dir is not None:
        own = f"file://{Path(config_dir).resolve()}"
        path.prepend(provider=USERS, path=own, anchor=SearchPathQuery(provider="schema"))
    with _TURN, composing(CheckedLoader(path, plain_defaults())) as searched:
        yield searched


@contextmanager
def composing(loader: ConfigLoader) -> Iterator[Hydra]:
    """Hydra with that loader, which ``compose`` goes by inside."""
    version.setbase("1.3")
    current, own = GlobalHydra.instance(), Hydra("privsweep", loader)
    before, current.hydra = current.hydra, own
    try:
        yield own
    finally:
        current.hydra = before


def parse(overrides: Sequence[str]) -> list[Override]:
    """What each override sets, as Hydra understands it; in ``searching`` or in a Hydra job. Raises UserError."""
    return parsed(overrides, GlobalHydra.instance().config_loader())


def compose(overrides: Sequence[str], known: Mapping[str, Any] = MappingProxyType({})) -> Composition:
    """Composes; to be called in ``searching`` or in a Hydra job. Raises UserError.

    ``known``: parts that are resolved already, such as a table's, which take their time.
    """
    try:
        cfg = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        return composition(cfg, overrides, known)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, overrides)) from error


def typed_for(own: HydraConf) -> list[str]:
    """The overrides of a job, by Hydra's own part of its configuration: as typed, references among them."""
    found: Any = OmegaConf.to_container(own.overrides.task, resolve=False)  # type: ignore[arg-type]
    return list(found)


def composition(
    cfg: DictConfig, overrides: Sequence[str], known: Mapping[str, Any] = MappingProxyType({})
) -> Composition:
    """What Hydra composed, as plain data; its own part included. Of ``known`` nothing is resolved again."""
    choices = {str(k): _choice(v) for k, v in cfg.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    for group, choice in choices.items():
        for name in choice if isinstance(choice, list) else [choice]:
            if name is not None and not _is_name(str(name)):
                raise UserError(
                    f"{group}={name}: leaves its folder, or is no name; name it by letters, digits and _.+- alone"
                )
    with open_dict(cfg):
        own = cfg.hydra
        own.job.num, own.job.id, own.runtime.output_dir = 0, "0", os.path.abspath(own.run.dir)
        with without_environment():
            hydras: Any = OmegaConf.to_container(own, resolve=True)
            del cfg["hydra"]
            plain: Any = OmegaConf.to_container(cfg, resolve=False)
            referred = _referred({key: value for key, value in plain.items() if key not in known})
            if referred is None or not referred.isdisjoint(known):  # what refers to it is resolved with it
                known = {}
            for key in known:
                cfg.pop(key, None)
            config: Any = {**OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True), **known}  # type: ignore[dict-item]
    brought = {choice: as_overrides(values) for choice, values in config.pop("brought", {}).items()}
    return shaped(Composition(config, choices, tuple(overrides), hydras, brought, referred))


def shaped(made: Composition) -> Composition:
    """The same, its shape checked. Raises UserError."""
    keys, groups = plain_defaults().keys() - {"defaults", "hydra"}, made.choices.keys() - {"experiment"}
    check_shape(made.config, keys, groups, _defenses(made.overrides))
    return made


def _referred(node: Any) -> frozenset[str] | None:
    """The words of all references in an unresolved configuration; None where one is put together from others."""
    words: set[str] = set()
    for _, value in walk(node, ""):
        if isinstance(value, str) and "${" in value:
            if re.search(r"\$\{[^{}]*\$\{", value):
                return None
            words.update(re.findall(r"\w+", value))
    return frozenset(words | {"scale"} if "at_scale" in words else words)


def _defenses(overrides: Sequence[str]) -> Any:
    """Which were chosen by an override, for Hydra notes no choice of several."""
    return next((o.value() for o in parsed([o for o in overrides if o.startswith("defense=")])), None)


def _choice(value: Any) -> Any:
    """A multi-select choice arrives as text, such as "[a,b]"."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value)
    if isinstance(value, str) and value.startswith("["):
        return [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return value


def _is_name(text: str) -> bool:
    """Whether it names a file below its group's folder, such as zen/table1."""
    return all(re.fullmatch(r"\w[\w.+-]*", part) for part in text.split("/"))
