"""A configuration from a stranger runs no code: Hydra's own part, which Hydra builds before any code of ours runs.

What was typed on the command line is the user's own. What comes from a file is judged, resolved, by lists of what is
known to be harmless; classes and control characters are judged whoever set them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.run.logging_settings import check_logging
from privsweep.run.overrides import NOTES
from privsweep.run.trust import INSTANTIATION, class_of, trusted, walk

SHIPPED = (  # where the classes are defined that Hydra and its launchers of ours ship
    "hydra._internal.core_plugins",
    "hydra.experimental.callbacks",
    "hydra_plugins.hydra_submitit_launcher",
    "hydra_plugins.hydra_optuna_sweeper",
)
SAMPLERS = frozenset(f"optuna.samplers.{name}Sampler" for name in ("TPE", "Random", "CmaEs", "NSGAII"))
EXTRAS = {
    "hydra_plugins.hydra_submitit_launcher": ("the SLURM launcher", "slurm"),
    "hydra_plugins.hydra_optuna_sweeper": ("Optuna's sweeper", "optuna"),
}
LAUNCHER_TEXTS = frozenset(  # of launchers: text that is quoted on its way, or reaches no shell
    {"partition", "qos", "constraint", "gres", "account", "exclude", "mem_per_gpu", "mem_per_cpu", "name"}
    | {"submitit_folder"}
)
KEYS = frozenset({"env", *(field.name for field in fields(HydraConf))})
UNUSED, INSTEAD = ("params", "search_space", "custom_search_space"), "type what is swept as key=a,b"  # of sweepers
PARTS = ("run", "sweep", "launcher", "sweeper", "job", "callbacks", "hydra_logging", "job_logging")


def check_hydra(node: Mapping[str, Any], typed: Collection[str], output_dir: str, job_folder: str) -> None:
    """Checks Hydra's resolved part; raises UserError.

    ``typed`` are the dotted keys that the command line sets, ``output_dir`` is the folder that files may not leave,
    and ``job_folder`` stands in the place of what a job learns only when it runs, its own folder.
    """
    _check_kinds(node)
    first = ("hydra.job.", "hydra.launcher.")  # what other texts repeat
    for path, value in sorted(walk(node, "hydra"), key=lambda found: not found[0].startswith(first)):
        if not path.startswith(NOTES):
            _check_text(path, value)
    _check_launcher(node["launcher"], typed)
    _check_job(node["job"], typed)
    for section in ("hydra_logging", "job_logging"):
        check_logging(f"hydra.{section}", node[section])
    if node.get("mode") is not None:
        raise UserError(f"hydra.mode={node['mode']}: is not used here; -m sweeps, and without it there is one run")
    for key in set(node["sweep"]) - {"dir", "subdir"}:  # such as submitit's mode, for chmod
        if f"hydra.sweep.{key}" not in typed:
            raise UserError(f"hydra.sweep.{key}={node['sweep'][key]}: is taken from the command line only; type it")
    _check_sweeper(node["sweeper"], typed)
    _check_folders(node, typed, output_dir, job_folder)
    if "/" in (name := str(node["job"].get("name"))):
        raise UserError(f"hydra.job.name={name}: is the name of a log file; write it without /")


def _check_kinds(node: Mapping[str, Any]) -> None:
    """That every part is there, and what is read of it can be read."""
    for key in node:
        if key not in KEYS:
            raise UserError(f"hydra.{key}: no such key; privsweep --cfg hydra lists the keys")
    parts = {f"hydra.{key}": node.get(key) for key in PARTS}
    callbacks = node.get("callbacks")
    if isinstance(callbacks, Mapping):
        parts |= {f"hydra.callbacks.{name}": callback for name, callback in callbacks.items()}
    for path, part in parts.items():
        if not isinstance(part, Mapping):
            raise UserError(f"{path}={shown(part)}: must be keys with values; privsweep --cfg hydra shows them")
    verbose = node.get("verbose")
    names = verbose if isinstance(verbose, list) else [verbose]
    if not isinstance(verbose, bool) and not all(isinstance(name, str) for name in names):
        raise UserError(f"hydra.verbose={shown(verbose)}: must be true, false or a list of loggers")


def _check_text(path: str, value: Any) -> None:
    """No text that ends a line, and no class but those that Hydra, its launchers or trusted packages define."""
    if isinstance(value, str):
        kept = value.replace("\n", "") if path.startswith(("hydra.help.", "hydra.hydra_help.")) else value
        if not kept.isprintable():
            raise UserError(f"{path}={value!r}: has a line break or another control character; remove it")
        if "${" in value:
            raise UserError(f"{path}={value}: an escaped interpolation is not used here; write the value itself")
    if not isinstance(value, Mapping):
        return
    for key in value:
        if not str(key).isprintable():
            raise UserError(f"{path}.{key!r}: has a line break or another control character; remove it")
        if key in INSTANTIATION:
            raise UserError(f"{path}.{key}: is not used here; remove it")
    if "_target_" in value and not (path == "hydra.sweeper.sampler" and value["_target_"] in SAMPLERS):
        kinds: dict[str, type] = {"hydra.launcher": Launcher, "hydra.sweeper": Sweeper}
        kind = Callback if path.rpartition(".")[0] == "hydra.callbacks" else kinds.get(path)
        target = str(value["_target_"])
        for package, (what, extra) in EXTRAS.items():
            if target.startswith(f"{package}.") and not _installed(package):
                raise UserError(
                    f"{path.replace('.', '/')}: {what} is not installed; run: pip install 'privsweep[{extra}]'"
                )
        if kind is None or not issubclass(class_of(path, target, (*SHIPPED, *trusted())), kind):
            raise UserError(f"{path}._target_={target}: Hydra builds no such class here; remove it")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _check_launcher(launcher: Mapping[str, Any], typed: Collection[str]) -> None:
    for word, value in launcher.items():
        path = f"hydra.launcher.{word}"
        harmless = not value or isinstance(value, int | float) or word == "_target_"
        plain = word in LAUNCHER_TEXTS and isinstance(value, str)
        if not (harmless or plain or path in trusted() or _was_typed(path, value, typed)):
            raise UserError(
                f"{path}={value}: may reach a shell, so it is taken from the command line only; type {path}=..."
            )


def _check_sweeper(sweeper: Mapping[str, Any], typed: Collection[str]) -> None:
    for word in UNUSED:
        if sweeper.get(word):
            raise UserError(f"hydra.sweeper.{word}: is not used here; {INSTEAD}")
    if (size := sweeper.get("max_batch_size")) is not None and not (isinstance(size, int) and size > 0):
        raise UserError(f"hydra.sweeper.max_batch_size={shown(size)}: must be null, or 1 or more")
    for word in ("storage", "study_name"):  # an address, where Optuna would write
        if sweeper.get(word) and f"hydra.sweeper.{word}" not in typed:
            raise UserError(f"hydra.sweeper.{word}={sweeper[word]}: is taken from the command line only; type it")


def _check_job(job: Mapping[str, Any], typed: Collection[str]) -> None:
    if job.get("chdir"):
        raise UserError("hydra.job.chdir=true: paths start where the command is typed; leave it out")
    copied = job.get("env_copy") or []
    if copied and not _was_typed("hydra.job.env_copy", copied, typed):
        raise UserError(f"hydra.job.env_copy={copied}: is taken from the command line only; type it, or remove it")
    for name, value in (job.get("env_set") or {}).items():
        path = f"hydra.job.env_set.{name}"
        if name not in copied and not _was_typed(path, value, typed):
            raise UserError(f"{path}={value}: is taken from the command line only; type it, or remove it")


def _check_folders(node: Mapping[str, Any], typed: Collection[str], output_dir: str, job_folder: str) -> None:
    """Whatever a file says where to write lies in the output folder, or in a folder that was typed."""
    run, sweep = node["run"]["dir"], node["sweep"]["dir"]
    job = os.path.join(sweep, str(node["sweep"]["subdir"]))
    folders = [output_dir]
    folders += [folder for key, folder in (("hydra.run.dir", run), ("hydra.sweep.dir", sweep)) if key in typed]
    for key, place in _places(node, run, sweep, job):
        for own in (run, job):
            written = str(place).replace(job_folder, own)
            if key not in typed and not any(inside(written, folder) for folder in folders):
                raise UserError(f"{key}={written}: leaves the output folder {output_dir}; type it to write elsewhere")


def _places(node: Mapping[str, Any], run: str, sweep: str, job: str) -> Iterator[tuple[str, str]]:
    """What is written by Hydra and its launchers: the key, and the path."""
    yield "hydra.run.dir", run
    yield "hydra.sweep.dir", sweep
    yield "hydra.sweep.subdir", job
    for own in (run, job):
        yield "hydra.output_subdir", os.path.join(own, node.get("output_subdir") or "")
    if node["launcher"].get("submitit_folder"):
        yield "hydra.launcher.submitit_folder", node["launcher"]["submitit_folder"]
    for section in ("hydra_logging", "job_logging"):
        for name, handler in node[section].get("handlers", {}).items():
            if handler.get("filename"):
                yield f"hydra.{section}.handlers.{name}.filename", handler["filename"]


def inside(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _was_typed(path: str, value: Any, typed: Collection[str]) -> bool:
    if isinstance(value, Mapping) and value:
        return all(_was_typed(f"{path}.{key}", inner, typed) for key, inner in value.items())
    return path in typed
