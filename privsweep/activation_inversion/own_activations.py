"""What the adversary's own images become on the way to the server: what decoders learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from privsweep.exposure.activations import forwarded
from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.randomness import Rng

Source = Callable[[Tensor], Tensor]  # inputs [n, C, H, W] -> what is sent for them, [n, ...]
AT_ONCE = 256  # images that are asked for together


class Part:
    """A source that is a network's first layers, in the mode that they are in; every call draws noise of its own."""

    def __init__(self, part: nn.Module, rng: Rng):
        self.part, self.rng = part, rng
        self.served = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.served += 1
        return forwarded(self.part, x, self.rng.child(self.served))


class OwnActivations:
    """The activations of ``n`` own images from each of R sources, R * n in a row: those of the first source first.

    Computed beforehand where all of them fit into ``memory`` GiB, and else anew whenever they are read.

    together: how many images pass a source at once whose answer for one depends on the others; 0: it does not.
        Nothing is kept then, for the others are new in every epoch.
    """

    def __init__(self, sources: Sequence[Source], prior: ImageSet, domain: Domain, memory: float, together: int = 0):
        self.sources, self.prior, self.domain, self.together = sources, prior, domain, together
        self.kept: Tensor | None = None
        every = torch.arange(len(prior), device=prior.labels.device)
        one = torch.cat([self._fresh(k, every[:1]) for k in range(len(sources))])
        self.shape = tuple(one.shape[1:])
        if not together and len(prior) * one.nbytes <= memory * 2**30:
            self.kept = one.new_empty(len(sources) * len(prior), *self.shape)
            for k in range(len(sources)):
                for batch in every.split(AT_ONCE):
                    self.kept[k * len(prior) + batch] = self._fresh(k, batch)

    def __call__(self, rows: Tensor) -> Tensor:
        """``[m, ...]`` for int64 ``[m]``."""
        if self.kept is not None:
            return self.kept.index_select(0, rows)
        return torch.cat([self._fresh(k, own) for k, own in self._by_source(rows)])

    def pixels(self, rows: Tensor) -> Tensor:
        """The images behind them, ``[m, C, H, W]`` in [0, 1]."""
        return self.prior.pixels(rows % len(self.prior))

    def of(self, k: int) -> Tensor:
        """The rows of one source."""
        first = k * len(self.prior)
        return torch.arange(first, first + len(self.prior), device=self.prior.labels.device)

    def _by_source(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        if len(self.sources) == 1:
            yield 0, rows
            return
        which, counts = (rows // len(self.prior)).unique_consecutive(return_counts=True)
        parts = (rows % len(self.prior)).split(counts.tolist())
        yield from zip(which.tolist(), parts, strict=True)

    def _fresh(self, k: int, batch: Tensor) -> Tensor:
        if not self.together:
            return self.sources[k](self.domain.inputs_of(self.prior, batch))
        missing = -len(batch) % self.together
        others = torch.arange(missing, device=batch.device) % len(self.prior)
        messages = torch.cat([batch, others]).split(self.together)
        return torch.cat([self.sources[k](self.domain.inputs_of(self.prior, one)) for one in messages])[: len(batch)]
