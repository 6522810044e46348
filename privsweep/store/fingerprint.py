"""A checksum of what an attack knows, so that what it prepared from the same knowledge is found again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from privsweep.interface.component import COUNTS_AS
from privsweep.interface.contents import Contents

_PLAIN = (bool, int, float, str, bytes, type(None))


def checksum_of(value: Any) -> str:
    """Twelve hexadecimal digits of tensors, modules (layers, mode, weights), dataclasses, files and plain values.

    Mappings, sequences and objects of other classes count by what they hold. Raises TypeError for a function: what it
    computes cannot be told from it. A field with ``COUNTS_AS`` in its metadata counts as what stands there.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()[:12]


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, nn.Module):
        digest.update(f"{value!r} training={value.training}".encode())
        for name, tensor in value.state_dict().items():
            digest.update(name.encode())
            _feed(digest, tensor)
    elif isinstance(value, Contents):  # of a file counts what is in it, not where it lies
        digest.update(value.fingerprint().encode())
    elif dataclasses.is_dataclass(value):
        digest.update(type(value).__qualname__.encode())
        for field in dataclasses.fields(value):
            digest.update(field.name.encode())
            _feed(digest, field.metadata.get(COUNTS_AS, getattr(value, field.name)))
    elif isinstance(value, Mapping):
        for name, part in value.items():
            digest.update(repr(name).encode())
            _feed(digest, part)
    elif isinstance(value, list | tuple) and not _plain(value):  # whose print may leave something out
        digest.update(f"{type(value).__qualname__} of {len(value)}".encode())
        for part in value:
            _feed(digest, part)
    elif isinstance(value, FunctionType | MethodType | partial):
        raise TypeError(f"{value!r}: a function has no checksum; hand over a frozen dataclass with __call__")
    elif type(value).__repr__ is object.__repr__:  # which shows an address
        digest.update(type(value).__qualname__.encode())
        _feed(digest, vars(value))
    else:
        digest.update(repr(value).encode())


def _plain(value: Any) -> bool:
    """Whether it is a number, a text or nothing, or a sequence of these: all of it is in its print."""
    return all(map(_plain, value)) if isinstance(value, list | tuple) else isinstance(value, _PLAIN)
