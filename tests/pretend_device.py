"""A GPU where there is none: tensors of a CPU that say they live on ``cuda:0``, and are held to it.

What a GPU refuses raises ``ElsewhereError``: an operation on tensors of both devices, a generator of the other device,
a wait of the host inside what is to be recorded as a CUDA graph. What it does silently, and slowly, is counted: every
wait of the host for a result (``item``, ``bool``, ``nonzero``, ``cpu`` and whatever comes down to them).

It cannot see what only the real device does: rounding, kernels that are missing or not deterministic, memory that is
too small, streams, and whether recording an iteration as a CUDA graph succeeds.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from privsweep.interface.data import _constants
from privsweep.interface.randomness import Rng
from privsweep.interface.replayed import Replayed

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_aten = torch.ops.aten
# Operations whose result, or its shape, the host needs.
_WAITS = {
    _aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default, _aten.equal.default,
    _aten._unique2.default, _aten.unique_dim.default, _aten.is_nonzero.default, _aten.bincount.default,
    _aten.repeat_interleave.Tensor,
}  # fmt: skip
_INDEXED = {_aten.index.Tensor, _aten.index_put_.default, _aten._unsafe_index.Tensor}
_GETTERS = {Tensor.device.__get__: lambda there: GPU if there else CPU, Tensor.is_cuda.__get__: bool,
            Tensor.is_cpu.__get__: lambda there: not there}  # fmt: skip


class ElsewhereError(RuntimeError):
    """What a GPU would have refused."""


@dataclass
class Pretence:
    """Which memory is the GPU's, and what the host has waited for."""

    there: dict[int, Any] = field(default_factory=dict)  # storages by their addresses, for as long as they live
    generators: dict[int, torch.Generator] = field(default_factory=dict)
    waits: Counter[str] = field(default_factory=Counter)
    inside: bool = False  # a function of tensors that are there: what it makes out of nothing is there as well

    def holds(self, t: Tensor) -> bool:
        while torch._C._functorch.is_functorch_wrapped_tensor(t):
            t = torch._C._functorch.get_unwrapped(t)
        return t.device.type != "meta" and t.untyped_storage()._cdata in self.there

    def place(self, t: Tensor, there: bool) -> None:
        storage = t.untyped_storage()
        address = storage._cdata
        self.there.pop(address, None)
        if there:
            self.there[address] = weakref.ref(storage, lambda gone: self._forget(address, gone))

    def _forget(self, address: int, gone: Any) -> None:
        if self.there.get(address) is gone:
            del self.there[address]

    def moved(self, t: Tensor, there: bool) -> Tensor:
        """A copy on the other device."""
        if not there:
            self.waits["copy to the host"] += 1
        with torch._C.DisableTorchFunction():
            return _Moved.apply(t, self, there)


class _Moved(torch.autograd.Function):
    """A copy between devices, which gradients pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor, pretence: Pretence, there: bool) -> Tensor:
        copy = t.detach().clone()
        pretence.place(copy, there)
        return copy

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.pretence, ctx.there = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Moved.apply(grad, ctx.pretence, not ctx.there), None, None


class _Below(TorchDispatchMode):
    """Holds operations to one device, and tells where results lie."""

    def __init__(self, pretence: Pretence):
        super().__init__()
        self.pretence = pretence

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        pretence = self.pretence
        given = _tensors((args, kwargs))
        compared = given
        if func in _INDEXED:  # which take indices of the CPU, and wait until they are copied
            compared = _tensors((args[0], args[2:]))
            if pretence.holds(args[0]) and not all(map(pretence.holds, _tensors(args[1]))):
                pretence.waits["indices of the host"] += 1
        sides = {pretence.holds(t) for t in compared if t.dim() or pretence.holds(t)}
        there = True in sides if given else pretence.inside
        if len(sides) == 2 and func is not _aten.copy_.default:
            raise ElsewhereError(f"{func}: tensors on the CPU and on {GPU}")
        if there and func in _WAITS:
            pretence.waits[str(func)] += 1
        if there and func in _INDEXED and any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1])):
            pretence.waits[f"{func} with a mask"] += 1
        known = {t.untyped_storage()._cdata for t in given}
        out = func(*args, **kwargs)
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.device.type != "meta" and t.untyped_storage()._cdata not in known:
                pretence.place(t, there)
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor) and t.device.type != "meta"]


class _Above(TorchFunctionMode):
    """Answers for devices, and makes on the CPU what is asked for on the GPU."""

    def __init__(self, pretence: Pretence):
        super().__init__()
        self.pretence = pretence

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        pretence = self.pretence
        if func in _GETTERS:
            if args[0].device.type == "meta":
                return func(*args)
            return _GETTERS[func](pretence.holds(args[0]))
        if func in (Tensor.cpu, Tensor.cuda, Tensor.to):
            return self._to(func, args, kwargs)
        if func in (Tensor.numpy, Tensor.tolist, Tensor.__array__) and pretence.holds(args[0]):
            if func is not Tensor.tolist:
                raise ElsewhereError(f"{func}: can't convert a tensor of {GPU}")
            pretence.waits["tolist"] += 1
        asked = kwargs.get("device")
        wanted = None if asked is None else torch.device(asked)
        if (generator := kwargs.get("generator")) is not None:
            target = wanted or (GPU if args and isinstance(args[0], Tensor) and pretence.holds(args[0]) else CPU)
            if (id(generator) in pretence.generators) != (target.type == "cuda"):
                raise ElsewhereError(f"{func}: a generator of the other device than {target}")
        if wanted is not None and wanted.type == "cuda":
            kwargs["device"] = CPU
        before = pretence.inside
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        pretence.inside = wanted is None and any(map(pretence.holds, given))
        try:
            out = func(*args, **kwargs)
        finally:
            pretence.inside = before
        if wanted is not None and isinstance(out, Tensor) and wanted.type != "meta":
            pretence.place(out, wanted.type == "cuda")
        elif func in (torch.tensor, torch.as_tensor, torch.from_numpy) and not given:
            pretence.place(out, False)
        return out

    def _to(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        t, *rest = args
        here = self.pretence.holds(t)
        if func is not Tensor.to:
            target: torch.device | None = CPU if func is Tensor.cpu else GPU
            out = t
        else:
            copy = kwargs.pop("copy", False)
            if rest and isinstance(rest[0], Tensor):
                target = GPU if self.pretence.holds(rest[0]) else CPU
                rest[0] = rest[0].dtype
                _, dtype, _, layout = torch._C._nn._parse_to(*rest, **kwargs)
            else:
                target, dtype, _, layout = torch._C._nn._parse_to(*rest, **kwargs)
            if target is not None and target.type == "meta":
                return func(*args, **kwargs)
            asked = {"dtype": dtype or t.dtype, "copy": copy, "memory_format": layout or torch.preserve_format}
            out = Tensor.to(t, **asked)
        there = here if target is None else target.type == "cuda"
        return out if there == here else self.pretence.moved(out, there)


class _Stream:
    """The only one: work is done when it is asked for."""

    def wait_stream(self, other: _Stream) -> None:
        pass


@contextmanager
def pretending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretence]:
    """Inside, ``cuda:0`` exists."""
    pretence = Pretence()
    real: Callable[..., torch.Generator] = Rng.generator

    def generator(self: Rng, device: torch.device | str = "cpu") -> torch.Generator:
        made = real(self)
        if torch.device(device).type == "cuda":
            pretence.generators[id(made)] = made  # kept, so that no other has its address
        return made

    def recorded(self: Replayed, *given: Tensor, rngs: Sequence[Rng] = (), kind: Any = None) -> tuple[Tensor, ...]:
        before = Counter(pretence.waits)
        found, draws = self.noticed(given, rngs)
        if self.recordable and pretence.waits != before:
            raise ElsewhereError(f"the host waits in what is to be recorded: {dict(pretence.waits - before)}")
        if self.recordable and draws.on_host:
            raise ElsewhereError("what is to be recorded draws numbers on the host")
        return found

    grouped: Callable[..., dict[Any, Any]] = torch.optim.Optimizer._group_tensors_by_device_and_dtype

    def by_device(lists: list[list[Any]], with_indices: bool = False) -> dict[Any, Any]:
        """Which is looked up in C++, where nothing is pretended."""
        there = all(pretence.holds(t) for t in lists[0])
        groups = grouped(lists, with_indices)
        return {(GPU if there else device, dtype): group for (device, dtype), group in groups.items()}

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(by_device))
        patch.setattr(Replayed, "__call__", recorded)
        patch.setattr(Rng, "generator", generator)
        for name, value in {
            "is_available": True, "device_count": 1, "synchronize": None, "reset_peak_memory_stats": None,
            "max_memory_allocated": 0, "get_device_name": "pretended", "empty_cache": None,
            "Stream": _Stream(), "current_stream": _Stream(), "stream": nullcontext(),
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, lambda *_, value=value: value)
        patch.setattr(
            torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None, raising=False
        )
        patch.setattr(torch.optim.Optimizer, "_cuda_graph_capture_health_check", lambda self: None, raising=False)
        _constants.cache_clear()
        with _Above(pretence), _Below(pretence):
            yield pretence
        _constants.cache_clear()
