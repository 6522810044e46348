"""Whether a component of somebody's own gave back tensors like those that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from privsweep.interface.data import Tensors


def check_returned(what: str, returned: Any, given: Tensors) -> None:
    """Raises TypeError or ValueError for other names, shapes or types than were given; no value is looked at."""
    if not isinstance(returned, Mapping):
        raise TypeError(f"{what} {type(returned).__name__}; let it return tensors by parameter name: {{name: tensor}}")
    for name in given.keys() ^ returned.keys():
        amiss = f"{name}, which it was not given" if name in returned else f"no {name}"
        raise ValueError(f"{what} {amiss}; let it return the names that it is given")
    for name, before in given.items():
        check_alike(what, returned[name], before, f" for {name}")


def check_alike(what: str, after: Any, before: Tensor, where: str = "") -> None:
    """Raises TypeError or ValueError where ``after`` is no tensor of the shape and type of ``before``."""
    if not isinstance(after, Tensor):
        raise TypeError(f"{what} {type(after).__name__}{where}; let it return a torch.Tensor")
    if after.shape != before.shape or after.dtype != before.dtype:
        found, wanted = (f"{t.dtype} {list(t.shape)}" for t in (after, before))
        raise ValueError(f"{what} {found}{where}; let it return {wanted}, as it is given")
