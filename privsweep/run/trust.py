"""A configuration from a stranger runs no code: which classes it may name.

``_target_`` may name only components defined in privsweep, or classes defined in packages that the user's own
environment trusts by name: ``PRIVSWEEP_TRUST=my_package,other``. What matters is where a class was defined, not
the path by which it was reached: ``privsweep.store.store.torch.load`` is none of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from pydantic.dataclasses import is_pydantic_dataclass

from privsweep.interface.errors import UserError

INSTANTIATION = ("_args_", "_partial_", "_recursive_", "_convert_")  # Hydra's words beside _target_


def trusted() -> tuple[str, ...]:
    """Packages whose classes a configuration may name, and keys of a launcher that a file may set."""
    return ("privsweep", *(name for name in os.environ.get("PRIVSWEEP_TRUST", "").split(",") if name))


def check_target(key: str, target: Any) -> None:
    """Raises UserError unless ``target`` is a component of privsweep or a class defined in a trusted package."""
    roots = trusted()
    if not isinstance(target, str) or not _under(target, roots):
        raise UserError(
            f"{key}._target_={target}: only classes of {', '.join(roots)} may be named; to trust a package of "
            "your own, set PRIVSWEEP_TRUST=its_name"
        )
    found = class_of(key, target, roots)
    if _under(found.__module__, roots[:1]) and not is_pydantic_dataclass(found):
        raise UserError(f"{key}._target_={target}: is no component; name a class that is decorated as one")


def class_of(key: str, target: str, roots: Sequence[str]) -> type:
    """The class that ``target`` names. Raises UserError unless it was defined under ``roots``."""
    if not _under(target, roots):
        raise UserError(f"{key}._target_={target}: only classes of {', '.join(roots)} may be named; remove it")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # the module is the user's own, and so are its faults
        missing = isinstance(error, ModuleNotFoundError) and error.name and _under(module, [error.name])
        misnamed = missing or (isinstance(error, AttributeError) and module in sys.modules)
        remedy = "correct the name, or put its folder on PYTHONPATH" if misnamed else f"correct {module}"
        said = error if misnamed else f"{type(error).__name__}: {error}"
        raise UserError(f"{key}._target_={target}: cannot be imported ({said}); {remedy}") from error
    if not isinstance(found, type) or not _under(found.__module__, roots):
        raise UserError(f"{key}._target_={target}: is no class defined in {', '.join(roots)}; name the class itself")
    return found


def check_component(key: str, node: Any) -> None:
    """Checks every ``_target_`` of a group's resolved configuration; raises UserError.

    Hydra's other instantiation keys are refused, and text that would be interpolated a second time.
    """
    for path, value in walk(node, key):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{path}={value}: an escaped interpolation is not used here; write the value itself")
        if isinstance(value, Mapping):
            for word in INSTANTIATION:
                if word in value:
                    raise UserError(f"{path}.{word}: is not used here; remove it")
            if "_target_" in value:
                check_target(path, value["_target_"])


def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A nested configuration and everything in it, each with its dotted path."""
    yield path, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from walk(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from walk(value, f"{path}[{number}]")


def _under(name: str, roots: Sequence[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)
