"""Shadow models of an informed adversary: their weights as rows of numbers, and the record that each was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.interface.asked import Algorithm
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Bench
from privsweep.store.fingerprint import checksum_of


@dataclass(frozen=True)
class ShadowWeights:
    """What a reconstructor learns from; row ``k`` of both belongs to shadow ``k``."""

    weights: Tensor  # [K, P], on the device or, read from the disk as they are used, on the CPU
    records: ImageSet  # of K, on the device

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``[n, P]`` and pixels ``[n, C, H, W]`` in [0, 1] of the chosen shadows, on the records' device."""
        device = self.records.labels.device
        weights = self.weights.index_select(0, rows.to(self.weights.device)).to(device)
        return weights, self.records.pixels(rows.to(device))

    def kept_on(self, device: torch.device, memory: float) -> ShadowWeights:
        """These with the weights on the device, if they take no more than ``memory`` GiB there."""
        if self.weights.device == device or self.weights.nbytes > memory * 2**30:
            return self
        return ShadowWeights(self.weights.to(device), self.records)


def flatten(weights: Tensors) -> Tensor:
    """Parameters and buffers ``[K, ...]`` as rows ``[K, P]``, in the order of their names; whole numbers are left out.

    The order is the same for released and shadow models, however their weights are listed.
    """
    rows = (weights[name] for name in sorted(weights) if weights[name].is_floating_point())
    return torch.cat([w.reshape(len(w), -1) for w in rows], 1)


def order_of(prior: ImageSet, rng: Rng) -> Tensor:
    """In which order the adversary's records are given to shadows, int64 ``[len(prior)]``."""
    return rng.child("shadow records").permutation(len(prior))


def train_shadows(algorithm: Algorithm, prior: ImageSet, count: int, rng: Rng, bench: Bench) -> ShadowWeights:
    """The first ``count`` shadows: model ``k`` has the fixed records and the k-th of ``prior``, in ``order_of``.

    They are kept, a row each, for every run with the same algorithm, prior and seed; more are added to them. Whenever
    models are handed out, they are one training: its weights after all epochs that it knows are kept together.
    """
    own = prior.take(order_of(prior, rng)[:count].to(prior.labels.device))
    key = {
        "shadows of": checksum_of(algorithm.whole),
        "records": checksum_of(prior),
        "seed": rng.seed,
        "path": list(rng.path),
    }

    def make(part: slice) -> Tensors:
        rngs = [rng.child("shadow", k) for k in range(part.start, part.stop)]
        records = ImageSet(own.images[part], own.labels[part])
        present = torch.ones(len(rngs), dtype=torch.bool, device=own.labels.device)
        course = algorithm.course(records, present, rngs, bench.tick)
        return {str(epochs): flatten(weights) for epochs, weights in course.items()}

    rows = bench.rows(key, count, algorithm.together(bench.device), make)
    return ShadowWeights(rows[str(algorithm.released)], own)


def without_record(algorithm: Algorithm, prior: ImageSet, rng: Rng) -> Tensor:
    """The weights ``[P]`` of a model that is trained on the fixed records alone."""
    nothing = torch.zeros(1, dtype=torch.bool, device=prior.labels.device)
    placeholder = ImageSet(prior.images[:1], prior.labels[:1])
    return flatten(algorithm(placeholder, nothing, [rng.child("reference")]))[0]
