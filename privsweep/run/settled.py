"""Hydra's own part of a configuration, resolved and checked: what is checked is what Hydra will use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from privsweep.interface.errors import UserError
from privsweep.run.companions import keys_set
from privsweep.run.hydra_settings import check_hydra, inside

# What only a job learns: while the rest is resolved, these stand in its place.
NUMBER, ID, FOLDER = 918273645, "<hydra.job.id>", "<hydra.runtime.output_dir>"
LATE = {str(NUMBER): "${hydra.job.num}", ID: "${hydra.job.id}", FOLDER: "${hydra.runtime.output_dir}"}


def settle(cfg: DictConfig, overrides: Sequence[Override], output_dir: str) -> None:
    """Resolves Hydra's part of ``cfg`` in place and checks it; raises UserError.

    What is checked is what Hydra will use: no interpolation stays behind that a job could resolve to something else.
    """
    if OmegaConf.is_interpolation(cfg, "hydra"):
        raise UserError("hydra: is an interpolation; write the values themselves")
    typed = keys_set(overrides)
    own = cfg.hydra
    noted: Any = OmegaConf.to_container(own.overrides, resolve=False)
    for kind, given in noted.items():
        if given != [o.input_line for o in overrides if o.is_hydra_override() == (kind == "hydra")]:
            raise UserError(f"hydra.overrides.{kind}: is Hydra's own note; remove it")
    for override in overrides:
        if "${" in str(override.input_line) and not override.is_hydra_override():
            OmegaConf.select(cfg, override.key_or_group)  # raises in the name of the key, not of what Hydra notes of it
    output_dir = _output_dir(cfg, typed, output_dir)
    with open_dict(own):
        own.job.num, own.job.id, own.runtime.output_dir = NUMBER, ID, FOLDER
        resolved: Any = OmegaConf.to_container(own, resolve=True)
        own.job.num, own.job.id, own.runtime.output_dir = "???", "???", "???"
        check_hydra(resolved, typed, output_dir, FOLDER)
        _freeze(own, resolved)
        own.overrides.update(noted)  # as typed: a job composes from it, where a reference may mean something else


def _output_dir(cfg: DictConfig, typed: set[str], default: str) -> str:
    """The folder of results. Raises UserError where a file of the configuration names one elsewhere."""
    given = str(OmegaConf.select(cfg, "output_dir", default=default))
    if not given.isprintable() or "${" in given:
        raise UserError(f"output_dir={given!r}: is no name of a folder; choose another")
    if not given.strip():
        raise UserError(f"output_dir={given}: names no folder; name the one for the results, or leave it out")
    if "output_dir" in typed:
        return given
    if not inside(given, default):
        raise UserError(f"output_dir={given}: leaves the output folder {default}; type it to write elsewhere")
    return default


def _freeze(node: Any, resolved: Any) -> None:
    keys: Any = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        if OmegaConf.is_interpolation(node, key):
            node[key] = _late(resolved[key])
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig | ListConfig):
            _freeze(node[key], resolved[key])


def _late(value: Any) -> Any:
    """With what a job learns as references again."""
    if isinstance(value, Mapping):
        return {key: _late(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_late(inner) for inner in value]
    text = str(value)
    for name, reference in LATE.items():
        text = text.replace(name, reference)
    return value if text == str(value) else text
