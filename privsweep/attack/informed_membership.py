"""Informed membership inference (Balle, Cherubin and Hayes, 2022, figure 10), by a model's confidence in the record."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, vmap

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Trials
from privsweep.interface.roles import Bench
from privsweep.membership_inference.in_out import by_content
from privsweep.membership_inference.related import side
from privsweep.model.stochastic import draw

_LEAST = 1e-12  # variance of a confidence, in squared logits: of shadows that agree


@component
class InformedMembership(AttackBase):
    """Takes a model's candidate for a member where its confidence is nearer to that of shadows with the record.

    The adversary knows all other records and the algorithm. It trains ``shadows`` models on each candidate and the
    fixed records, and as many on the fixed records alone, which serve all candidates. A candidate that stands for
    several models is trained on once. The score is the log likelihood ratio of two Gaussians, which for each candidate
    have the two means and one variance (Carlini et al., 2022, section V), so that the scores of different candidates
    can be pooled; above 0 decides for a member. Figure 10 shows the loss, which is among the diagnostics: where a
    model is sure it rounds to 0 with the record and without, and the confidence does not.

    The models of one side differ by what is drawn for each: initial values where models do not share them, and the
    noise of differential privacy. Where nothing is drawn they are equal, as their answers are to rounding, one shadow
    a side is trained, and half of the distance between the two stands for the deviation. The paper's own models with
    shared initial values differed by reductions of a GPU that are not deterministic.
    """

    shadows: Annotated[int, Field(ge=1)]

    observes: ClassVar[type] = Trials
    version: ClassVar[int] = 2  # shadows that diverged are left out
    prepared_version: ClassVar[int] = 1
    reports: ClassVar[frozenset[str]] = frozenset({"confidence_spread", "loss_spread"})
    needs: ClassVar[frozenset[str]] = frozenset({"algorithm", "candidates", "domain"})
    prepares_from: ClassVar[frozenset[str]] = needs
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "white-box")

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Confidences of shadows ``with`` and ``without`` each distinct candidate, ``[U, shadows]``, by content."""
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
            return {"confidence": told(known, models, asked, rng.child("without", part.start, "asked"))[0]}

        def including(part: slice) -> Tensors:
            pairs = [divmod(i, each) for i in range(part.start, part.stop)]
            rngs = [rng.child("with", u, k) for u, k in pairs]
            records = own.take(torch.tensor([u for u, _ in pairs], device=first.device))
            present = torch.ones(len(rngs), dtype=torch.bool, device=first.device)
            models = algorithm(records, present, rngs, bench.tick)
            asked = ImageSet(records.images[:, None], records.labels[:, None])
            return {"confidence": told(known, models, asked, rng.child("with", part.start, "asked"))[0]}

        out = bench.chunks("shadows", "without", each, size, without)["confidence"]
        inside = bench.chunks("shadows", "with", len(own) * each, size, including)["confidence"]
        return {"with": inside.view(len(own), each), "without": out.T.contiguous()}

    def __call__(self, seen: Trials, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        records = known.candidates
        _, group = distinct(records)
        asked = ImageSet(records.images[:, None], records.labels[:, None])
        confidence, loss = (value[:, 0] for value in told(known, seen.weights, asked, rng.child("asked")))
        scores = ratio(confidence, prepared["with"][group], prepared["without"][group])
        return Scores(scores, scores > 0, {"confidence": confidence, "loss": loss})


def ratio(asked: Tensor, inside: Tensor, out: Tensor) -> Tensor:
    """How much likelier ``asked`` ``[n]`` is among ``inside`` ``[n, K]`` than among ``out``, as a logarithm ``[n]``.

    Shadows that diverged are left out. Zero for a model that did, or where too few are left for a variance.
    """
    one, other = (side(each.T, each.T.isfinite()) for each in (inside, out))
    apart, middle = one.mean - other.mean, (one.mean + other.mean) / 2
    several = inside.shape[1] > 1
    variance = (one.squares / one.free + other.squares / other.free) / 2 if several else apart.square() / 4
    return (apart * (asked - middle) / variance.clamp_min(_LEAST)).nan_to_num(0.0, 0.0, 0.0)


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
def told(known: Knowledge, weights: Tensors, records: ImageSet, rng: Rng) -> tuple[Tensor, Tensor]:
    """Confidences, ``log(p / (1 - p))`` in float64, and losses ``[K, n]`` of models with ``weights`` ``[K, ...]`` on
    records of their own, ``[K, n, C, H, W]``.
    """
    device = records.labels.device
    net = known.algorithm.network(rng).to(device).eval()
    each = vmap(known.domain.loss)
    sure, lost = [], []
    for k in range(len(records)):
        x = known.domain.inputs_of(records, torch.tensor(k))
        model = {name: w[k] for name, w in weights.items()}
        outputs = functional_call(net, {**model, **draw(net, len(x), rng.child(k), device)}, (x,))
        logits, labels = outputs[:, : known.domain.classes], records.labels[k]
        lost.append(each(logits[:, None], labels[:, None]))
        hits = nn.functional.one_hot(labels, known.domain.classes).bool()
        others = logits.double().masked_fill(hits, -torch.inf).logsumexp(1)
        sure.append(logits.double()[hits] - others)
    return torch.stack(sure), torch.stack(lost)
