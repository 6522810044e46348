"""Work that is done again and again on tensors of one shape: on a GPU it is recorded once as a CUDA graph and replayed.

Small networks leave a GPU waiting for the next kernel to be launched; a replay launches all of them at once. Whatever
the work reads and is not given must stay where it is in memory, and it must not synchronise with the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_WARM_UP = 3  # calls that run as they are: libraries choose their kernels and set up in them
_SHAPES = 4  # of what is given, beyond which further ones run as they are: each recording holds memory

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


class Replayed:
    """``work``, with the results of calling it; those of a replay are overwritten by the next call.

    The first calls run as they are, and so do all on a CPU. Where recording fails the rest do too, and ``launching``
    says why; what runs is the same either way.
    """

    def __init__(self, work: Work, device: torch.device):
        self.work = work
        self.recordable = device.type == "cuda"
        self.calls: dict[tuple[object, ...], int] = {}
        self.recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        if not (self.recordable and launching.graphs):
            return self.work(*given)
        kind = tuple((t.shape, t.stride(), t.dtype) for t in given)
        recording = self.recordings.get(kind)
        if recording is None:
            seen = self.calls[kind] = self.calls.get(kind, 0) + 1
            if seen <= _WARM_UP or len(self.recordings) == _SHAPES:
                return self._aside(given)
            recording = self._record(given)
            if recording is None:
                return self.work(*given)
            self.recordings[kind] = recording
        for to, now in zip(recording.given, given, strict=True):
            to.copy_(now)
        recording.graph.replay()
        return recording.found

    def _aside(self, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """On a stream of its own, as what is to be recorded must have run."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = self.work(*given)
        torch.cuda.current_stream().wait_stream(stream)
        for t in given:
            t.record_stream(stream)
        for t in found:
            t.record_stream(torch.cuda.current_stream())
        return found

    def _record(self, given: tuple[Tensor, ...]) -> _Recording | None:
        """Nothing runs while it is recorded."""
        own = tuple(t.clone() for t in given)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                found = self.work(*own)
        except RuntimeError as error:  # whatever cannot be recorded, and too little memory for it
            self.recordable = False
            launching.refused = str(error).splitlines()[0]
            return None
        launching.recorded += 1
        return _Recording(graph, own, found)
