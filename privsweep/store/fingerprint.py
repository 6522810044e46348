"""A checksum of what an attack knows, so that what it prepared from the same knowledge is found again."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from torch import Tensor, nn

from privsweep.interface.data import Contents


def checksum_of(value: Any) -> str:
    """Twelve hexadecimal digits of tensors, modules (layers, mode, weights), dataclasses, files and plain values."""
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
            _feed(digest, getattr(value, field.name))
    else:
        digest.update(repr(value).encode())
