"""Tensors with a checksum, so that a flipped bit is noticed as well as a missing end. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.store.atomic import whole_file
from privsweep.store.sealed import SEAL, plain
from privsweep.store.spoilt import ABSENT, SpoiltError, set_aside, unreadable

Notes = dict[str, Any]


def save_tensors(path: Path, tensors: Tensors, key: Mapping[str, Any], **notes: Any) -> None:
    """A safetensors file with notes (JSON) and a checksum over all of it; ``key`` says what it is.

    One process at a time: drafts that a killed one left are removed.
    """
    apart = _apart(tensors)
    content = {"key": dict(key), "names": list(apart), **notes}
    text = json.dumps({**content, SEAL: _checksum(apart, content)})
    with whole_file(path, alone=True) as draft:
        save_file(apart, draft, {"privsweep": text})  # one entry: several would come in any order


def _apart(tensors: Tensors) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own, for views of one tensor cannot be saved.

    A tensor of one element counts as contiguous whatever its stride, and has no bytes to show unless that is one.
    """
    apart, seen = {}, set()
    for name, given in tensors.items():
        t = given.detach().cpu().contiguous()
        shared = t.untyped_storage().data_ptr() in seen or t.untyped_storage().nbytes() != t.nbytes
        if shared or (t.dim() and t.stride(-1) != 1):
            t = t.clone(memory_format=torch.contiguous_format)
        seen.add(t.untyped_storage().data_ptr())
        apart[name] = t
    return apart


def taken_tensors(path: Path, device: torch.device, key: Mapping[str, Any]) -> tuple[dict[str, Tensor], Notes] | None:
    """What was saved there and the notes beside it; None where there is nothing, or something spoilt or foreign,
    which is set aside. Raises UserError where the system does not hand it over."""
    try:
        with path.open("rb"):  # for safetensors says of any file that it cannot open that there is none
            pass
        tensors, notes = _load(path)
        if plain(notes["key"]) != plain(dict(key)) or set(notes["names"]) != set(tensors):
            raise SpoiltError("of something else")
    except (SpoiltError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, IsADirectoryError) as e:
        set_aside(path, e if isinstance(e, SpoiltError) else "no such file as was written")
        return None
    except OSError as error:
        if isinstance(error, ABSENT) and error.errno is not None:  # which safetensors does not tell
            return None
        raise unreadable(path, error) from error
    return {name: tensors[name].to(device) for name in notes["names"]}, notes  # the file has an order of its own


def _load(path: Path) -> tuple[dict[str, Tensor], Notes]:
    with safe_open(path, "pt") as file:
        notes: Notes = json.loads((file.metadata() or {})["privsweep"])
    tensors = load_file(path)
    if notes.pop(SEAL) != _checksum(tensors, notes):
        raise SpoiltError("changed since it was written")
    return tensors, notes


def _checksum(tensors: Tensors, notes: Notes) -> str:
    digest = hashlib.sha256(plain(notes).encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
