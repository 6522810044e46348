"""The informed adversary's membership inference, on a toy whose models learn their record's brightness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from informed_world import CALLS, DOMAIN, pictures
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from tiny import Bench
from torch import Tensor, nn

from privsweep.attack.informed_membership import InformedMembership, distinct, ratio
from privsweep.interface.data import ImageSet
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Trials


@dataclass(frozen=True)
class Counts:
    """Weights by which a model prefers the label of its record a little."""

    fixed: ImageSet
    noise: float
    sure: float = 0.0  # by how much the label leads, with the record or without

    @property
    def random(self) -> bool:
        return self.noise > 0

    def network(self, rng: Rng) -> nn.Module:
        """Its answers do not depend on the image."""
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    @property
    def whole(self) -> Counts:
        return self

    @property
    def released(self) -> int:
        return 1

    def course(self, *given: Any) -> dict[int, dict[str, Tensor]]:
        return {1: self(*given)}

    def together(self, device: torch.device) -> int:
        return 64

    def __call__(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Tensor]:
        CALLS.append(len(rngs))
        bias = nn.functional.one_hot(records.labels, 3) * (self.sure + 0.1 * present[:, None])
        bias = bias + self.noise * torch.stack([rng.normal(3) for rng in rngs])
        return {"1.weight": torch.zeros(len(rngs), 3, 64), "1.bias": bias}


def trials(noise: float, each: int = 100) -> tuple[Trials, Knowledge, Tensor]:
    """Of three records, ``each`` models with and as many without; and which have it."""
    records = pictures(3, "candidates")
    candidates = records.take(torch.arange(3).repeat(2 * each))
    member = torch.arange(6 * each) < 3 * each
    algorithm = Counts(pictures(5, "fixed"), noise)
    weights = algorithm(candidates, member, [Rng(5).child(k) for k in range(6 * each)])
    known = Knowledge(algorithm=algorithm, candidates=candidates, domain=DOMAIN)
    return Trials(weights), known, member


def scored(seen: Trials, known: Knowledge, shadows: int = 50) -> Scores:
    attack = InformedMembership(shadows=shadows)
    prepared = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))
    return attack(seen, known.only(attack.needs), prepared, Bench(), Rng(0))


def test_equal_models_are_told_apart_with_one_shadow_a_side() -> None:
    seen, known, member = trials(0.0)
    CALLS.clear()
    found = scored(seen, known)
    assert sum(CALLS) == 1 + 3
    assert torch.equal(found.decisions, member)
    assert found.diagnostics["loss"].shape == member.shape


def test_noise_hides_membership_as_the_gaussians_overlap() -> None:
    for noise, low, high in [(0.05, 0.8, 0.98), (5.0, 0.4, 0.6)]:
        seen, known, member = trials(noise)
        found = scored(seen, known)
        assert low < roc_auc_score(member, found.scores) < high
    assert 0.4 < found.decisions.double().mean() < 0.6


def test_candidates_are_trained_on_once_however_often_they_stand() -> None:
    seen, known, _ = trials(0.1)
    CALLS.clear()
    scored(seen, known, shadows=10)
    assert sum(CALLS) == 10 + 3 * 10


def test_scores_do_not_depend_on_the_order_of_candidates() -> None:
    seen, known, _ = trials(0.1, each=5)
    backwards = torch.arange(30).flip(0)
    turned = known.having(candidates=known.candidates.take(backwards))
    other = scored(Trials({name: w[backwards] for name, w in seen.weights.items()}), turned)
    assert torch.allclose(scored(seen, known).scores, other.scores[backwards])


def test_nothing_is_told_of_a_model_that_is_no_number() -> None:
    seen, known, _ = trials(0.0, each=2)
    seen.weights["1.bias"][1] = torch.nan
    found = scored(seen, known)
    assert (found.scores[1], found.decisions[1]) == (0, False)
    assert found.scores.isfinite().all()


def test_shadows_that_are_no_numbers_are_left_out() -> None:
    """One of those without a record serves all candidates, and made every score 0."""
    seen, known, member = trials(0.05)
    attack = InformedMembership(shadows=20)
    prepared = {name: t.clone() for name, t in attack.prepare(known, Bench(), Rng(0)).items()}
    whole = attack(seen, known, prepared, Bench(), Rng(0)).scores
    prepared["without"][:, 3] = torch.nan
    prepared["with"][1, :2] = torch.inf
    some = attack(seen, known, prepared, Bench(), Rng(0)).scores
    assert roc_auc_score(member, some) > roc_auc_score(member, whole) - 0.02
    prepared["without"][:, 1:] = torch.nan
    assert not attack(seen, known, prepared, Bench(), Rng(0)).scores.any(), "one has no variance"


def test_a_record_of_which_models_are_sure_with_it_and_without_is_told_all_the_same() -> None:
    """Its loss is 0 in float32 either way."""
    _, known, member = trials(0.0, each=2)
    algorithm = replace(known.algorithm, sure=30.0)  # type: ignore[type-var]
    alike = replace(known.candidates, labels=torch.zeros_like(known.candidates.labels))
    own = algorithm(alike, member, [Rng(5).child(k) for k in range(len(member))])
    found = scored(Trials(own), known.having(algorithm=algorithm, candidates=alike))
    assert not found.diagnostics["loss"].any()
    assert torch.equal(found.decisions, member)
    assert torch.allclose(found.scores, member.double() * 4 - 2, rtol=1e-4)


def test_the_score_is_the_ratio_of_two_gaussians_of_one_variance() -> None:
    inside, out = (mean + torch.randn(3, 40, generator=Rng(0).generator()).double() for mean in (2.0, 0.0))
    asked = torch.tensor([2.0, 0.5, -1.0], dtype=torch.float64)
    deviation = ((inside.var(1) + out.var(1)) / 2).sqrt()
    expected = norm.logpdf(asked, inside.mean(1), deviation) - norm.logpdf(asked, out.mean(1), deviation)
    assert torch.allclose(ratio(asked, inside, out), torch.from_numpy(expected))


@pytest.mark.parametrize("order", [[0, 1, 0, 2, 1, 0], [2, 1, 0, 0, 1, 0]])
def test_distinct_records_are_found_by_image_and_label(order: list[int]) -> None:
    records = pictures(2, "candidates")
    third = ImageSet(records.images[:1], records.labels[:1] + 1)
    pool = ImageSet(torch.cat([records.images, third.images]), torch.cat([records.labels, third.labels]))
    chosen = pool.take(torch.tensor(order))
    first, group = distinct(chosen)
    assert len(first) == 3
    again = chosen.take(first[group])
    assert torch.equal(again.images, chosen.images)
    assert torch.equal(again.labels, chosen.labels)
