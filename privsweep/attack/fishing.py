"""A malicious server's weights, with which only images of one class leave a gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.label_inference import labels_by_counts, last_bias, not_sent
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, finite, refuses_difference
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation, ThreatModel, Update
from privsweep.interface.roles import Bench, View, WorksAround

_OUT_OF_REACH = -1e12  # a bias with which no logit counts


@component
class Fishing(AttackBase):
    """The output layer's weights, chosen so that a batch's gradient is that of its images of one class.

    Wen et al., "Fishing for user data in large-batch federated learning via gradient magnification" (ICML 2022),
    section 3.2: the rows of all other classes are zero and the ``target``'s bias so low that no image is taken for one
    of that class. Then images of the others leave nothing in any layer before the output: for them the error times
    the weights is zero. Those of the target leave their row's whole weight. ``inversion``, an attack on gradients, is
    given that of as many images of the target as there are: where there is one, that of a single image.

    How many there are of every class is exact, in the gradient of the output's bias. Of the output layer's gradient the
    target's row is of its images alone, and their part in any other row an equal share of its negative. Ours: the
    target's row is ``gain`` times as large, so that noise of a given size drowns. The authors fish for one of several
    images of a class by a second round with the same images, which nobody here is asked for.
    """

    target: Annotated[int, Field(ge=0)]
    gain: Annotated[float, Field(gt=0)]
    inversion: Any

    observes: ClassVar[type[Update] | None] = Update
    reports: ClassVar[frozenset[str]] = frozenset({"hooked"})
    threat: ClassVar[ThreatModel] = ThreatModel(
        frozenset({"train"}), frozenset({"server"}), "white-box", security="malicious"
    )

    def __post_init__(self) -> None:
        """Raises UserError where what inverts is no attack on an update's images, or plants weights itself."""
        if getattr(self.inversion, "observes", None) is not Update or hasattr(self.inversion, "plant"):
            raise UserError(
                "attack.inversion: is no attack that inverts the gradient of an honest server's weights; take "
                "attack@attack.inversion=iga"
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"model", "domain", "recipe"}) | self.inversion.needs - {"labels"}

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        found: frozenset[str] = self.inversion.prepares_from
        return found

    @property
    def version(self) -> int:
        return getattr(self.inversion, "version", 0)

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view) or self.inversion.refuses(view)

    def without_effect(self, points: frozenset[str]) -> str | None:
        return self.inversion.without_effect(points) if isinstance(self.inversion, WorksAround) else None

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if self.target >= domain.classes:
            return f"attack.target={self.target}: classes are numbered 0 to {domain.classes - 1}"
        try:
            bias = last_bias(model, domain.classes)
        except UserError:
            return "attack=fishing: the network must end in a linear layer with a bias; take attack=imprint"
        if missing := not_sent(model, [bias, bias.removesuffix("bias") + "weight"]):
            return f"attack=fishing: the update has no {', '.join(missing)}; take attack=iga"
        return self.inversion.fits(model, domain, prior)

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int | None:
        assert isinstance(seen, Update)
        return self.inversion.victims_at_once(seen, known, device)

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        return self.inversion.prepare(known, bench, rng)

    def plant(self, weights: Tensors, known: Knowledge, rng: Rng) -> Tensors:
        bias = last_bias(known.model, known.domain.classes)
        weight, planted = bias.removesuffix("bias") + "weight", dict(weights)
        planted[weight] = torch.zeros_like(weights[weight])
        planted[weight][self.target] = self.gain * weights[weight][self.target]
        planted[bias] = torch.zeros_like(weights[bias])
        planted[bias][self.target] = _OUT_OF_REACH
        return planted

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """As ``inversion``, and raises as it does. Images that are not hooked are grey.

        One is taken for hooked where none seems to be, for clipping hides them from the count.
        """
        domain, gradient = known.domain, captured_gradient(seen, known)
        bias = last_bias(known.model, domain.classes)
        errors = gradient[bias].clone()
        errors[:, self.target] = 0  # as a difference of numbers out of reach it is rounded away; all errors add up to 0
        errors[:, self.target] = -errors.sum(1)
        diverged = ~finite(gradient)
        expected = torch.full_like(errors, 1 / (domain.classes - 1))  # what the network answers, whatever it is shown
        expected[:, self.target] = 0
        labels = labels_by_counts((expected - errors).nan_to_num(0, 0, 0).clamp_min(0), seen.examples)
        hooked = (labels == self.target).sum(1)
        grey = domain.inputs(torch.full(domain.shape, 0.5, device=errors.device))
        images = grey.expand(len(errors), seen.examples, *domain.shape).clone()
        first = (labels != self.target).long().argsort(dim=1, stable=True)
        for count in hooked[~diverged].clamp_min(1).unique().tolist():
            places = ((hooked.clamp_min(1) == count) & ~diverged).nonzero()[:, 0]
            of_all = {name: seen.examples / count * g[places] for name, g in gradient.items()}
            sent = self._hooked(of_all, seen.examples / count * errors[places], bias)
            some = replace(seen.take(places), delta=sent, kind="gradient", contributors=1, examples=count)
            granted = known.having(labels=torch.full((len(places), count), self.target, device=errors.device))
            guess = self.inversion(some, granted.only(self.inversion.needs), prepared, bench, rng)
            images[places[:, None], first[places, :count]] = guess.images.to(images)
            diverged[places] = guess.diverged.to(diverged)
        return Reconstruction(images, diverged, labels, {"hooked": hooked})

    def _hooked(self, gradient: Tensors, errors: Tensor, bias: str) -> Tensors:
        """``gradient`` without what other images than the hooked ones add to the output layer's, of that ``bias``."""
        weight, alone = bias.removesuffix("bias") + "weight", dict(gradient)
        for name, rows in (weight, gradient[weight]), (bias, errors):
            own = rows[:, self.target, None]
            alone[name] = (-own / (rows.shape[1] - 1)).expand_as(rows).clone()
            alone[name][:, self.target] = own[:, 0]
        return alone
