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
from privsweep.model.stochastic import draw


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
    reports: ClassVar[frozenset[str]] = frozenset({"loss_spread"})
    needs: ClassVar[frozenset[str]] = frozenset({"algorithm", "candidates", "domain"})
    prepares_from: ClassVar[frozenset[str]] = needs
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "white-box")

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Losses of the shadows ``with`` and ``without`` each distinct candidate, ``[U, shadows]``, by content."""
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
            return {"loss": losses(known, models, asked, rng.child("without", part.start, "asked"))}

        def including(part: slice) -> Tensors:
            pairs = [divmod(i, each) for i in range(part.start, part.stop)]
            rngs = [rng.child("with", u, k) for u, k in pairs]
            records = own.take(torch.tensor([u for u, _ in pairs], device=first.device))
            present = torch.ones(len(rngs), dtype=torch.bool, device=first.device)
            models = algorithm(records, present, rngs, bench.tick)
            asked = ImageSet(records.images[:, None], records.labels[:, None])
            return {"loss": losses(known, models, asked, rng.child("with", part.start, "asked"))}

        out = bench.chunks("shadows", "without", each, size, without)["loss"]
        inside = bench.chunks("shadows", "with", len(own) * each, size, including)["loss"]
        return {"with": inside.view(len(own), each), "without": out.T.contiguous()}

    def __call__(self, seen: Trials, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        records = known.candidates
        _, group = distinct(records)
        asked = ImageSet(records.images[:, None], records.labels[:, None])
        loss = losses(known, seen.weights, asked, rng.child("asked"))[:, 0]
        midpoint = (prepared["with"].mean(1) + prepared["without"].mean(1)) / 2
        scores = (midpoint[group] - loss).nan_to_num(0.0)  # of a model that diverged, nothing can be told
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
def losses(known: Knowledge, weights: Tensors, records: ImageSet, rng: Rng) -> Tensor:
    """Of models with ``weights`` ``[K, ...]`` on records of their own, ``[K, n, C, H, W]``: ``[K, n]``."""
    device = records.labels.device
    net = known.algorithm.network(rng).to(device).eval()
    each = vmap(known.domain.loss)
    found = []
    for k in range(len(records)):
        x = known.domain.inputs_of(records, torch.tensor(k))
        model = {name: w[k] for name, w in weights.items()}
        outputs = functional_call(net, {**model, **draw(net, len(x), rng.child(k), device)}, (x,))
        found.append(each(outputs[:, None, : known.domain.classes], records.labels[k][:, None]))
    return torch.stack(found)
