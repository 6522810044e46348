"""Work that is done again and again on tensors of one shape: on a GPU it is recorded once as a CUDA graph and replayed.

Small networks leave a GPU waiting for the next kernel to be launched; a replay launches all of them at once. Whatever
the work reads and is not given must stay where it is in memory, it must not synchronise with the host, and it must do
the same whenever it is given tensors of the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.interface.draws import Draws, Purpose
from privsweep.interface.randomness import Rng

_WARM_UP = 3  # calls that run as they are: libraries choose their kernels and set up in them
_KINDS = 8  # of calls, beyond which further ones run as they are: each recording holds memory

Work = Callable[..., tuple[Tensor, ...]]


@dataclass
class Launching:
    """How this process launches repeated work on a GPU, and what has become of it."""

    graphs: bool = True
    recorded: int = 0
    refused: str = ""

    def in_words(self) -> str:
        """For a record: ``graphs``, ``eager`` (nothing to record, or not wanted), or why recording failed."""
        if self.refused:
            return f"eager: {self.refused}"
        return "graphs" if self.recorded else "eager"


launching = Launching()


@contextmanager
def launched(graphs: bool) -> Iterator[Launching]:
    """Whether ``Replayed`` work may be recorded inside; starts the count anew."""
    before = (launching.graphs, launching.recorded, launching.refused)
    launching.graphs, launching.recorded, launching.refused = graphs, 0, ""
    try:
        yield launching
    finally:
        launching.graphs, launching.recorded, launching.refused = before


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    found: tuple[Tensor, ...]
    draws: Draws


class Replayed:
    """``work``, with the results of calling it; those of a replay are overwritten by the next call.

    The first calls run as they are, and so do all on a CPU. Where recording fails the rest do too, and ``launching``
    says why; what runs is the same either way.
    """

    def __init__(self, work: Work, device: torch.device):
        self.work = work
        self.device = device
        self.recordable = device.type == "cuda"
        self.calls: dict[Hashable, list[Draws]] = {}
        self.recordings: dict[Hashable, _Recording] = {}

    def __call__(self, *given: Tensor, rngs: Sequence[Rng] = (), kind: Hashable = None) -> tuple[Tensor, ...]:
        """``work(*given)``, or ``work(*given, rngs=rngs)`` with streams, from which it draws on the device alone.

        kind: on what else the work depends; each is recorded by itself.
        """
        if not (self.recordable and launching.graphs):
            return self._run(given, rngs)
        kind = (kind, len(rngs), *((t.shape, t.stride(), t.dtype) for t in given))
        recording = self.recordings.get(kind)
        if recording is None:
            calls = self.calls.setdefault(kind, [])
            if len(calls) < _WARM_UP or len(self.recordings) == _KINDS:
                return self._aside(given, rngs, calls)
            recording = self._record(given, rngs, calls[-1].asked)
            if recording is None:
                return self._run(given, rngs)
            self.recordings[kind] = recording
        for to, now in zip(recording.given, given, strict=True):
            to.copy_(now)
        recording.draws.seed(rngs)
        recording.graph.replay()
        return recording.found

    def _run(self, given: Sequence[Tensor], rngs: Sequence[Rng]) -> tuple[Tensor, ...]:
        return self.work(*given, rngs=rngs) if rngs else self.work(*given)

    def noticed(self, given: Sequence[Tensor], rngs: Sequence[Rng]) -> tuple[tuple[Tensor, ...], Draws]:
        """What the work gives, and what it drew."""
        draws = Draws()
        return self._run(given, draws.streams(rngs)), draws

    def _aside(self, given: tuple[Tensor, ...], rngs: Sequence[Rng], calls: list[Draws]) -> tuple[Tensor, ...]:
        """On a stream of its own, as what is to be recorded must have run."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found, draws = self.noticed(given, rngs)
        torch.cuda.current_stream().wait_stream(stream)
        for t in given:
            t.record_stream(stream)
        for t in found:
            t.record_stream(torch.cuda.current_stream())
        if len(calls) < _WARM_UP:
            calls.append(draws)
        if draws.on_host:
            self._refuse("it draws numbers on the host")
        return found

    def _record(self, given: tuple[Tensor, ...], rngs: Sequence[Rng], asked: Sequence[Purpose]) -> _Recording | None:
        """Nothing runs while it is recorded."""
        own = tuple(t.clone() for t in given)
        draws = Draws([(purpose, torch.Generator(self.device)) for purpose in asked])
        graph = torch.cuda.CUDAGraph()
        try:
            for _, generator in draws.fixed or ():
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                found = self._run(own, draws.streams(rngs))
        except RuntimeError as error:  # whatever cannot be recorded, and too little memory for it
            self._refuse(str(error).splitlines()[0])
            return None
        launching.recorded += 1
        return _Recording(graph, own, found, draws)

    def _refuse(self, reason: str) -> None:
        self.recordable = False
        launching.refused = reason
