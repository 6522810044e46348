"""A configuration from a stranger runs no code.

``_target_`` may name only classes defined in privsweep, or in packages that the user's own environment
trusts by name: ``PRIVSWEEP_TRUST=my_package,other``. Hydra itself builds callbacks, launchers and logging
from the configuration, so its part is checked before Hydra sees it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from privsweep.interface.errors import UserError

HYDRA = ("hydra._internal", "hydra_plugins", "privsweep")
LOGGING = frozenset(
    {"logging.StreamHandler", "logging.FileHandler", "colorlog.ColoredFormatter", "logging.NullHandler"}
)
SHELL = ("setup", "python", "additional_parameters", "srun_args", "comment", "dependency")


def trusted() -> tuple[str, ...]:
    """Top-level packages whose classes a configuration may name."""
    return ("privsweep", *(name for name in os.environ.get("PRIVSWEEP_TRUST", "").split(",") if name))


def _under(target: str, roots: Sequence[str]) -> bool:
    return any(target == root or target.startswith(f"{root}.") for root in roots)


def check_target(key: str, target: Any) -> None:
    """Raises UserError unless ``target`` is a class defined in a trusted package."""
    roots = trusted()
    if not isinstance(target, str) or not _under(target, roots):
        raise UserError(
            f"{key}._target_={target}: only classes of {', '.join(roots)} may be named; to trust a package of "
            "your own, set PRIVSWEEP_TRUST=its_name"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}._target_={target}: cannot be imported ({error}); mend the name") from error
    if not isinstance(found, type) or not _under(found.__module__, roots):
        raise UserError(f"{key}._target_={target}: is no class defined in {', '.join(roots)}; name the class itself")


def check_component(key: str, node: Any) -> None:
    """Checks every ``_target_`` of a group's configuration; Hydra's other instantiation keys are refused."""
    for path, mapping in _mappings(node, key):
        for word in ("_args_", "_partial_", "_recursive_", "_convert_"):
            if word in mapping:
                raise UserError(f"{path}.{word}: is not used here; remove it")
        if "_target_" in mapping:
            check_target(path, mapping["_target_"])


def check_hydra(node: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Checks Hydra's own part; ``typed`` are the overrides of the command line, which the user answers for."""
    for path, mapping in _mappings(node, "hydra"):
        target = mapping.get("_target_")
        if target is not None and not _under(str(target), HYDRA):
            raise UserError(f"{path}._target_={target}: not one of Hydra's or privsweep's; remove it")
        if path.startswith(("hydra.job_logging", "hydra.hydra_logging")):
            for word in ("()", "class"):
                if word in mapping and mapping[word] not in LOGGING:
                    raise UserError(f"{path}.{word}={mapping[word]}: not a known log handler; remove it")
            for key, value in mapping.items():
                if isinstance(value, str) and value.startswith(("ext://", "cfg://")) and value not in STREAMS:
                    raise UserError(f"{path}.{key}={value}: may not be looked up; remove it")
    for word in SHELL:
        value = (node.get("launcher") or {}).get(word)
        if value and not any(o.lstrip("+").startswith(f"hydra.launcher.{word}=") for o in typed):
            raise UserError(
                f"hydra.launcher.{word}={value}: runs in a shell, so it is taken from the command line only; "
                f"type hydra.launcher.{word}=..."
            )


STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})


def _mappings(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        yield path, node
        for key, value in node.items():
            yield from _mappings(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _mappings(value, f"{path}[{number}]")
