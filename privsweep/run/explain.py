"""Says in one line what is wrong with a configuration that Hydra does not compose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from privsweep.interface.errors import UserError
from privsweep.run.checked_loader import CheckedLoader
from privsweep.run.overrides import OWN, USERS, choices_in, nearest, no_choice, parsed
from privsweep.run.unset import has_key

_EXTRAS = {
    "hydra/launcher=submitit_slurm": ("the SLURM launcher", "slurm"),
    "hydra/sweeper=optuna": ("Optuna's sweeper", "optuna"),
}


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's words in one line that names the key, the value and the remedy; to be called where it composed."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    brought = [line for e in chain for line in getattr(e, "__notes__", [])]
    return "; ".join([_explained(chain, overrides), *brought])


def _explained(chain: Sequence[BaseException], overrides: Sequence[str]) -> str:
    own = next((e for e in chain if isinstance(e, UserError)), None)
    if own:
        return str(own)
    loader: Any = GlobalHydra.instance().config_loader()
    typed = parsed(overrides, loader)
    text = "\n".join(str(e) for e in chain).partition("Config search path")[0]
    absent = re.search(r"Could not find '([^']+/[^']+)'|In '([^']+)': Could not load '([^']+/[^']+)'", text)
    if absent and (absent[2] in (None, "config") or "=".join(absent[3].rsplit("/", 1)) in _EXTRAS):
        return _no_such_choice(absent[1] or absent[3], absent[2] or "config", typed, loader)
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    packaged = re.search(r"In '([^']+)/([^'/]+)': Could not override '[^']+@experiment\b", text)
    if packaged:
        return (
            f"{packaged[1]}={packaged[2]}: states its values under {packaged[1]}; let its YAML begin with "
            "# @package _global_"
        )
    if key and "@" in key[1] and "Could not override" in text:
        return f"{key[1]}: nothing is there yet that it could override; put a + before it: +{key[1]}=..."
    if key and ("struct" in text or "not in" in text):
        if key[1] in _keys(_chosen(typed, loader)[0], ""):  # and what was typed would give it keys
            return f"{key[1]}: has no such keys yet; to add them, put a + before it: +{key[1]}=..."
        return f"{key[1]}: no such key; {_instead(key[1], typed, loader)}"
    if key and "Missing mandatory value" in text:
        return _no_value(key[1], typed, loader)
    merged = re.match(r"Error merging override (.*)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if merged:
        return f"{merged[1]}: {lines[1] if len(lines) > 1 else 'does not fit'}; see privsweep --cfg all"
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    named = f"{key[1]}: " if key and key[1] not in said else ""
    return f"{named}{said}; see privsweep --help and privsweep --cfg job"


def _no_such_choice(path: str, within: str, typed: Sequence[Override], loader: CheckedLoader) -> str:
    """Of a file that is not there, such as experiment/zen/table99, and ``within`` which file it was looked for."""
    group, _, choice = path.rpartition("/")  # where a file names it
    shown = group
    for override in typed:
        own, value = override.key_or_group, override.value()
        for name in value if isinstance(value, list) else [value]:
            if path == f"{own}/{name}":
                group, choice, shown = own, str(name), override.get_key_element().lstrip("+")
    if (asked := f"{group}={choice}") in _EXTRAS:
        what, extra = _EXTRAS[asked]
        by = asked if within == "config" else "=".join(within.rsplit("/", 1))  # a preset that needs it
        return f"{by}: {what} is not installed; run: pip install 'privsweep[{extra}]'"
    told = str(no_choice(shown, choice, choices_in(loader.repository, group)))
    searched = loader.get_search_path().get_path()
    return told if any(folder.provider == USERS for folder in searched) else f"{told}; {OWN}"


def _no_value(key: str, typed: Sequence[Override], loader: CheckedLoader) -> str:
    """Of a value that a choice's file leaves to the user, with what the file says of it."""
    group, _, name = key.partition(".")
    _, choices = _chosen(typed, loader)
    choice = choices.get(group) or choices.get(f"dataset@{group}")
    said = loader.repository.comment(f"{'dataset' if group == 'prior' else group}/{choice}", name)
    return f"{key}: has no value, and {choice} needs one; set {key}=...{f' ({said})' if said else ''}"


def _instead(key: str, typed: Sequence[Override], loader: CheckedLoader) -> str:
    """What may have been meant by a key that the choices that were made do not have."""
    config, choices = _chosen(typed, loader)
    keys, files = list(_keys(config, "")), loader.repository
    parts = key.split(".")
    size = 2 if parts[0] == "hydra" else 1  # of the group, such as hydra/launcher
    group, path = "/".join(parts[:size]), parts[size:]
    if key == "model.weights":  # what every choice may have, and one's own need not name
        return "add weights: null to your model's YAML, or write +model.weights=..."
    if group == "defense" and path and path[0] in {*files.get_group_options(group)} - {*config.get(group, ())}:
        return f"it goes with 'defense=[{path[0]}]', which is not chosen; choose it, or leave {key} out"
    others = [c for c in files.get_group_options(group) if path and has_key(loader.stated(group, c), path)]
    if others:
        has = "has it" if len(others) == 1 else "have it"
        return f"{group}={', '.join(others)} {has}, {group}={choices.get(group)} has not"
    above, _, last = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == above]
    if near := get_close_matches(last, siblings, 1):
        return f"did you mean {f'{above}.' if above else ''}{near[0]}?"
    if siblings and above:
        return f"{above} has {', '.join(siblings)}"
    return nearest(key, keys)


def _chosen(typed: Sequence[Override], loader: CheckedLoader) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """What the choices that were typed compose to, without the values that were; and the choice of every group."""
    groups = [o for o in typed if not o.is_sweep_override() and loader.repository.group_exists(o.key_or_group)]
    lines = [str(o.input_line) for o in groups if not isinstance(o.value(), dict)]
    try:
        cfg = hydra.compose("config", overrides=lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, UserError):
        return {}, {}
    made: Any = OmegaConf.to_container(cfg, resolve=False)
    return made, made["hydra"]["runtime"]["choices"]


def _keys(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name != "_target_":  # nobody types it
                yield f"{path}{name}"
            yield from _keys(value, f"{path}{name}.")
