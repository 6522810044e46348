"""Informed membership inference (Balle, Cherubin and Hayes, 2022, figure 10): the loss of a model on the one record."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call, vmap

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Scores, ThreatModel, Trials
from privsweep.interface.roles import Bench
from privsweep.membership_inference.shadow_attack import by_content


@component
class InformedMembership(AttackBase):
    """Takes a model's candidate for a member where the loss on it is below what separates shadows with and without it.

    The adversary knows all other records and the algorithm. It trains ``shadows`` models on each candidate and the
    fixed records, and as many on the fixed records alone, which serve all candidates. A candidate that stands for
    several models is trained on once. The score is how far the loss lies below the midpoint of the two mean losses, so
    that the scores of different candidates can be pooled; above 0 decides for a member.

    The models of one side differ by what is drawn for each: initial values where models do not share them, and the
    noise of differential privacy. Where nothing is drawn they are equal, as their losses are to rounding, and one
    shadow a side is trained. The paper's own models with shared initial values differed by reductions of a GPU that
    are not deterministic.
    """

    shadows: Annotated[int, Field(ge=1)]

    observes: ClassVar[type] = Trials
    prepares_from: ClassVar[frozenset[str]] = frozenset({"algorithm", "candidates", "domain", "architecture"})
    needs: ClassVar[frozenset[str]] = prepares_from | {"loss"}
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "white-box")

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Outputs of shadows ``with`` and ``without`` each distinct candidate, for it, ``[U, shadows, ...]``."""
        first, _ = distinct(known.candidates)
        own, algorithm = known.candidates.take(first), known.algorithm
        each = self.shadows if algorithm.random else 1
        size = algorithm.together(bench.device)

        def without(part: slice) -> Tensors:
            rngs = [rng.child("without", k) for k in range(part.start, part.stop)]
            records = own.take(torch.zeros(len(rngs), dtype=torch.int64, device=first.device))
            absent = torch.zeros(len(rngs), dtype=torch.bool, device=first.device)
            models = algorithm(records, absent, rngs, bench.tick)
            asked = ImageSet(*(t.expand(len(rngs), *t.shape) for t in (own.images, own.labels)))
            return {"outputs": outputs(known, models, asked)}

        def including(part: slice) -> Tensors:
            pairs = [divmod(i, each) for i in range(part.start, part.stop)]
            rngs = [rng.child("with", u, k) for u, k in pairs]
            records = own.take(torch.tensor([u for u, _ in pairs], device=first.device))
            present = torch.ones(len(rngs), dtype=torch.bool, device=first.device)
            models = algorithm(records, present, rngs, bench.tick)
            return {"outputs": outputs(known, models, _one_each(records))}

        out = bench.chunks("shadows", "without", each, size, without)["outputs"]
        inside = bench.chunks("shadows", "with", len(own) * each, size, including)["outputs"]
        return {"with": inside.unflatten(0, (len(own), each)).squeeze(2), "without": out.transpose(0, 1).contiguous()}

    def __call__(self, seen: Trials, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        records = known.candidates
        first, group = distinct(records)
        own = records.labels[first][:, None].expand(-1, prepared["with"].shape[1])
        sides = [losses(known, prepared[side], own).mean(1) for side in ("with", "without")]
        loss = losses(known, outputs(known, seen.weights, _one_each(records)), records.labels[:, None])[:, 0]
        scores = (torch.stack(sides).mean(0)[group] - loss).nan_to_num(0.0)  # a model that diverged tells nothing
        return Scores(scores, scores > 0, {"loss": loss})


def distinct(records: ImageSet) -> tuple[Tensor, Tensor]:
    """Positions ``[U]`` of the distinct records, ordered by content, and which of these each one is, ``[n]``."""
    order = by_content(records)
    images, labels = records.images[order].flatten(1), records.labels[order]
    new = torch.ones_like(labels, dtype=torch.bool)
    new[1:] = (images[1:] != images[:-1]).any(1) | (labels[1:] != labels[:-1])
    group = torch.empty_like(order)
    group[order] = new.cumsum(0) - 1
    return order[new], group


@torch.no_grad()
def outputs(known: Knowledge, weights: Tensors, records: ImageSet) -> Tensor:
    """Of models with ``weights`` ``[K, ...]`` for records of their own, ``[K, n, C, H, W]``: ``[K, n, ...]``."""
    net = known.architecture.build(known.domain, Rng(0)).to(records.labels.device).eval()
    found = []
    for k in range(len(records)):
        x = known.domain.inputs_of(records, torch.tensor(k))
        found.append(functional_call(net, {name: w[k] for name, w in weights.items()}, (x,)))
    return torch.stack(found)


def losses(known: Knowledge, found: Tensor, labels: Tensor) -> Tensor:
    """Of each output ``[K, n, ...]``, ``[K, n]``."""
    return vmap(vmap(lambda output, label: known.loss(output[None], label[None])))(found, labels)


def _one_each(records: ImageSet) -> ImageSet:
    """``[K]`` records as ``[K, 1]``."""
    return ImageSet(records.images[:, None], records.labels[:, None])
