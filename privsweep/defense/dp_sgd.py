"""Differentially private training at the client: DP-SGD, also called local or client-level DP."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.differential_privacy.accounting import (
    Accountant,
    Releases,
    asymptotic,
    check_noise,
    loose,
    noise_for,
    report,
)
from privsweep.differential_privacy.clipping import clip, noised, refuse_statistics
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule

_KEY = "defense.dp_sgd"


@component
class DpSgd(Defense):
    """Clips every example's gradient and adds Gaussian noise to their sum, in every local step and in a captured one.

    Abadi et al., "Deep Learning with Differential Privacy" (2016), algorithm 1; Zen, sections 3 and 5.1. The noise
    on the sum has the standard deviation ``noise_multiplier * max_grad_norm``. Whoever sees all gradients, updates and
    models that come of these steps, in all rounds, learns of one example no more than (epsilon, delta) allows. Other
    messages are not covered: the activations that a client of split learning or of collaborative inference sends, and
    the labels with them, go out as they are. The figures hold for every client,
    and are those of the one for whom they are worst: the fewer examples, the more often each is drawn, but one more
    than a whole number of batches is one more step in every pass. They take no credit for rounds that a client sits
    out. Where ``delta`` is null it is one over the examples of the largest client, and so no more than that of any.

    ``poisson``: every step draws each example with probability batch size / examples, which is what the accountants
    amplify by. Without it the batches are the setting's own; then every pass over the data counts as one step on all
    of them, without amplification. Either way neighbours differ in one example that is blanked, and how many there are
    is no secret: sums are divided by one and the same number with it and without (``fl_setting=release`` trains such
    pairs).

    ``max_grad_norm: null`` and ``noise_multiplier: 0`` is plain training, with ``poisson`` on batches of drawn sizes.
    """

    max_grad_norm: Annotated[float, Field(gt=0)] | None
    epsilon: Annotated[float, Field(gt=0)] | None
    noise_multiplier: Annotated[float, Field(ge=0)] | None
    delta: Annotated[float, Field(gt=0, lt=1)] | None
    accountant: Accountant
    poisson: bool

    bounded: ClassVar[tuple[str, str]] = ("example_gradients", "gradient")

    def __post_init__(self) -> None:
        check_noise(_KEY, self.epsilon, self.noise_multiplier, "max_grad_norm", self.max_grad_norm)

    @property
    def version(self) -> int:
        """1: the epsilon is that of the client who pays most, not of the smallest. 2: released models have one divisor.

        3: Renyi orders above 63. 4: where it is null, delta is by the largest client, not by the smallest. 5 and 6: the
        same, where gdp is exact without sampling.
        """
        return (4 if self.delta is None else 3) + 2 * (self.accountant == "gdp")

    def bind(self, schedule: Schedule) -> Self:
        """With delta and noise multiplier in numbers; raises UserError for an epsilon that no noise has."""
        delta = self.delta if self.delta is not None else 1 / _most(schedule)
        sigma = self.noise_multiplier
        if self.epsilon is not None:
            sigma = noise_for(_KEY, self.accountant, self.epsilon, self.releases(schedule), delta)
        bound: Self = replace(self, epsilon=None, noise_multiplier=sigma, delta=delta)  # type: ignore[type-var]
        if self.accountant != "rdp":  # whose epsilon is always found
            bound.spent(schedule)
        return bound

    def releases(self, schedule: Schedule) -> list[Releases]:
        """What a client of every size releases in all rounds."""
        return [self._releases(schedule, examples, steps) for examples, steps in schedule.uses]

    def _releases(self, schedule: Schedule, examples: int, steps: int) -> Releases:
        if self.poisson:
            return Releases(min(1.0, schedule.batch_size / examples), steps)
        pass_ = -(-examples // schedule.batch_size)  # steps of one
        return Releases(1.0, schedule.rounds and schedule.rounds * -(-steps // (schedule.rounds * pass_)))

    def spent(self, schedule: Schedule) -> dict[str, float]:
        """Of ``bind``'s result: epsilon, delta, the Renyi order (of rdp), and what they follow from."""
        assert self.noise_multiplier is not None
        assert self.delta is not None
        releases = self.releases(schedule)
        return report(
            _KEY, self.accountant, self.noise_multiplier, releases, self.delta, "max_grad_norm", self.max_grad_norm
        )

    def warnings(self, schedule: Schedule) -> list[str]:
        """Where a client may publish an example, or epsilon is no bound; not of ``bind``'s result."""
        given = loose(_KEY, self.delta, _most(schedule), "examples of the largest client")
        return given + asymptotic(_KEY, self.accountant, self.releases(schedule))

    def acts_at(self) -> frozenset[str]:
        return super().acts_at() - (frozenset() if self.poisson else {"sample"})

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        refuse_statistics("dp_sgd", model)
        return model

    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        chosen = torch.rand(examples, generator=rng.generator()) < batch_size / examples
        return chosen.nonzero()[:, 0]

    def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
        return grads if self.max_grad_norm is None else clip(grads, self.max_grad_norm)

    def example_bound(self) -> float:
        return math.inf if self.max_grad_norm is None else self.max_grad_norm

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        deviation = self.gradient_noise(expected_batch)
        return noised(grad, deviation, rng) if deviation else grad

    def gradient_noise(self, expected_batch: int) -> float:
        assert self.noise_multiplier is not None, "bind first"
        return self.noise_multiplier * (self.max_grad_norm or 0.0) / expected_batch


def _most(schedule: Schedule) -> int:
    """The examples of the largest client, and two at least: of one alone, a delta of 1 would be nothing."""
    return max(2, *(examples for examples, _ in schedule.uses))
