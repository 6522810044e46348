"""A malicious server's weights, with which every image of a batch leaves a gradient of its own."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.label_inference import not_sent
from privsweep.gradient_inversion.staircase import largest_steps
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, finite, refuses_difference
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.model.first_layer import first_linear, following

_AT_ONCE = 4096  # own images that are measured together
_NOTHING = 1e-5  # of the largest bias gradient: a smaller step is rounding
# Of the deviation, by the fifth root of how many there are: half of Silverman's width, which is for a single hill.
_WIDTH = 0.45
_BLURRED, _MOST = 64, 2**22  # points that a measurement is spread over; that all are, or few more, for memory's sake


@component
class Imprint(AttackBase):
    """The first two layers' weights, chosen so that images are told apart by their brightness (Fowl et al., 2022).

    "Robbing the Fed", section 4: every unit of the first layer measures the mean of the inputs, each with a threshold
    of its own, a quantile of what images like the adversary's own measure. The second layer takes all units alike, so
    that an image adds one and the same error times itself to the gradients of all units whose threshold it passes. Over
    the units in their order the gradient is a staircase: where an image's brightness lies it falls by that image times
    its error, and the bias's gradient by the error. However large the batch, and though updates be summed, an image
    comes out exactly unless it shares its step with another.

    Ours: steps are found by least squares over the whole staircase (``gradient_inversion.staircase``), so that noise
    averages out over all units between two steps, where the paper takes the differences of neighbours; and the weights
    are small in the first layer and large in the second, so that the gradient is ``gain`` times larger than what the
    network does would make it, and noise of a given size drowns in it.
    """

    gain: Annotated[float, Field(gt=0)]

    version: ClassVar[int] = 1  # thresholds are of a smooth density
    observes: ClassVar[type[Update] | None] = Update
    needs: ClassVar[frozenset[str]] = frozenset({"model", "domain", "recipe", "prior"})
    threat: ClassVar[ThreatModel] = ThreatModel(
        frozenset({"train"}), frozenset({"server"}), "white-box", security="malicious"
    )

    def refuses(self, view: View) -> str | None:
        return refuses_difference(view)

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        opening = _opening(model, domain)
        if opening is None:
            return (
                "attack=imprint: the network must begin with a linear layer, ReLU and a linear layer; take model=smlp, "
                "or model=imprint_module, which puts them before another"
            )
        missing = not_sent(model, [f"{opening[0]}.weight", f"{opening[0]}.bias"])
        return f"attack=imprint: the update has no {', '.join(missing)}; take attack=iga" if missing else None

    def plant(self, weights: Tensors, known: Knowledge, rng: Rng) -> Tensors:
        first, second = self._opening(known)
        planted = dict(weights)
        layer, after = weights[f"{first}.weight"], weights[f"{second}.weight"]
        own = torch.arange(len(known.prior), device=layer.device).split(_AT_ONCE)
        measured = torch.cat([known.domain.inputs_of(known.prior, part).flatten(1).mean(1) for part in own]).to(layer)
        thresholds = _thresholds(measured, len(layer))
        passed = (measured[:, None] - thresholds).clamp_min(0).sum(1).mean()  # what the second layer adds up
        planted[f"{first}.weight"] = torch.full_like(layer, 1 / (self.gain * layer.shape[1]))
        planted[f"{first}.bias"] = -thresholds / self.gain
        alike = rng.normal(len(after), 1).abs().to(after)  # one number for each unit behind; above 0, lest ReLU stop it
        planted[f"{second}.weight"] = (alike * self.gain / passed).repeat(1, after.shape[1])
        return planted

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Raises UserError for a model that does not fit, and as ``captured_gradient``."""
        first, _ = self._opening(known)
        gradient = captured_gradient(seen, known)
        weight, bias = gradient[f"{first}.weight"], gradient[f"{first}.bias"]
        rows = torch.cat((weight, bias[:, :, None]), 2).nan_to_num(0, 0, 0)
        _, steps = largest_steps(rows, min(seen.examples, rows.shape[1]))
        error = steps[:, :, -1:]
        empty = error.abs() <= _NOTHING * rows[:, :, -1].abs().amax(1)[:, None, None]
        inputs = (steps[:, :, :-1] / error).view(*error.shape[:2], *known.domain.shape)
        least, most = known.domain.box(inputs.device)
        blank = known.domain.inputs(known.prior.mean()).to(inputs)
        images = torch.where(empty[..., None, None], blank, inputs.clamp(least, most))
        images = torch.cat((images, blank.expand(len(images), seen.examples - images.shape[1], *blank.shape)), 1)
        return Reconstruction(images=images, diverged=~finite(gradient))

    def _opening(self, known: Knowledge) -> tuple[str, str]:
        found = _opening(known.model, known.domain)
        if found is None:
            raise UserError(str(self.fits(known.model, known.domain, None)))
        return found


def _opening(model: nn.Module, domain: Domain) -> tuple[str, str] | None:
    """The names of a linear first layer and of the linear one behind its ReLU, or None."""
    if (first := first_linear(model, prod(domain.shape))) is None:
        return None
    behind = following(model, first, 2)
    return (first, behind[1][0]) if [type(layer) for _, layer in behind] == [nn.ReLU, nn.Linear] else None


def _thresholds(measured: Tensor, units: int) -> Tensor:
    """One for each unit, ascending: the first below all that may be measured, the others the quantiles between.

    Of a smooth density about what was measured: few images' own quantiles lie unevenly, and more images share a step.
    """
    levels = torch.arange(units, device=measured.device, dtype=measured.dtype) / units
    count = min(_BLURRED, 1 + _MOST // len(measured))
    points = torch.special.ndtri((torch.arange(count).to(measured) + 0.5) / count)
    width = _WIDTH * measured.std(correction=0) * len(measured) ** -0.2
    found = (measured[:, None] + width * points).flatten().quantile(levels)
    found[0] = 2 * measured.min() - measured.max() - 1
    return found
