"""Differential privacy at the server: noise on the aggregate only."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import Field
from torch import nn

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
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.training.aggregation import participants

_KEY = "defense.central_dp"


@component
class CentralDp(Defense):
    """Clips every client's update; the server adds Gaussian noise to their mean, and clients weigh alike.

    McMahan et al., "Learning Differentially Private Recurrent Language Models" (2018); Zen, section 5.1. The noise
    on the mean of n updates has the standard deviation ``noise_multiplier * max_update_norm / n``. Whoever sees the
    models, but no single update, learns of one whole client no more than (epsilon, delta) allows. The server does see
    the updates, clipped and without noise, which are not covered.

    Every round counts in full, whoever takes part. ``amplification`` counts a participation below 1 as Poisson sampling
    of clients at that rate, as is customary; rounds draw a fixed number, so that whoever is drawn keeps another out,
    and epsilon may come out too low: of one in ten clients, with a noise multiplier of 1, as 2.1 where it is 3.7 at
    least.

    A squared distance (``attack=dlg``) hardly matches a clipped update, a cosine (``attack=iga``) does: take that.

    ``max_update_norm: null`` and ``noise_multiplier: 0`` leave no more than equal weights.
    """

    max_update_norm: Annotated[float, Field(gt=0)] | None
    epsilon: Annotated[float, Field(gt=0)] | None
    noise_multiplier: Annotated[float, Field(ge=0)] | None
    delta: Annotated[float, Field(gt=0, lt=1)]
    accountant: Accountant
    amplification: bool

    uniform: ClassVar[bool] = True
    bounded: ClassVar[tuple[str, str]] = ("update", "aggregate")

    def __post_init__(self) -> None:
        check_noise(_KEY, self.epsilon, self.noise_multiplier, "max_update_norm", self.max_update_norm)

    @property
    def version(self) -> int:
        """1: Renyi orders above 63. 2: gdp is exact without sampling."""
        return 2 if self.accountant == "gdp" else 1

    def bind(self, schedule: Schedule) -> Self:
        """With the noise multiplier in numbers; raises UserError with nothing to average, or no epsilon found."""
        if schedule.clients < 2:
            raise UserError(
                "defense=central_dp: hides one client among others, and there is only one; take a federation of "
                "fl_setting.clients=2 or more, or defense=[dp_sgd]"
            )
        sigma = self.noise_multiplier
        if self.epsilon is not None:
            sigma = noise_for(_KEY, self.accountant, self.epsilon, self.releases(schedule), self.delta)
        bound: Self = replace(self, epsilon=None, noise_multiplier=sigma)  # type: ignore[type-var]
        if self.accountant != "rdp":  # whose epsilon is always found
            bound.spent(schedule)
        return bound

    def releases(self, schedule: Schedule) -> list[Releases]:
        rate = participants(schedule.clients, schedule.participation) / schedule.clients
        return [Releases(rate if self.amplification else 1.0, schedule.rounds)]

    def spent(self, schedule: Schedule) -> dict[str, float]:
        """Of ``bind``'s result: epsilon, delta, the Renyi order (of rdp), and what they follow from."""
        assert self.noise_multiplier is not None
        releases = self.releases(schedule)
        return report(
            _KEY, self.accountant, self.noise_multiplier, releases, self.delta, "max_update_norm", self.max_update_norm
        )

    def warnings(self, schedule: Schedule) -> list[str]:
        """Where the server may publish what it has of a client, or epsilon is no bound."""
        each = self.releases(schedule)
        given = loose(_KEY, self.delta, schedule.clients, "clients' updates")
        given += asymptotic(_KEY, self.accountant, each)
        if any(one.sample_rate < 1 for one in each):
            given.append(
                f"{_KEY}.amplification=true: counts clients as drawn each by itself, and rounds draw a fixed number, "
                "so that epsilon may come out too low; take false for a bound"
            )
        return given

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        refuse_statistics("central_dp", model)
        return model

    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        if self.max_update_norm is None:
            return delta
        clipped = clip({name: t[None] for name, t in delta.items()}, self.max_update_norm)
        return {name: t[0] for name, t in clipped.items()}

    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        assert self.noise_multiplier is not None, "bind first"
        if self.noise_multiplier == 0:
            return mean
        assert self.max_update_norm is not None
        return noised(mean, self.noise_multiplier * self.max_update_norm / contributors, rng)
