"""How far two images lie apart in the features of a network, as a term of a reconstructor's loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled, replica
from privsweep.training.fit import fit

Perceptual = Literal["none", "lpips", "features"]
Distance = Callable[[Tensor, Tensor], Tensor]  # two batches of pixels [n, C, H, W] in [0, 1] -> their mean distance
_SMALLEST_LPIPS = 31  # pixels a side, for AlexNet's two poolings
_FILTERS = (32, 64, 128)  # of the classifier whose features stand in
_SCHEDULE = LocalSchedule(Optimizer("adam", 1e-3, 0.0), 10, None, 128)
_LEAST = 1e-10  # squared norm of a feature vector


def unfit(kind: Perceptual, domain: Domain) -> str | None:
    """Why that distance cannot be had, in words that name a remedy, or None."""
    if kind != "lpips":
        return None
    if min(domain.shape[1:]) < _SMALLEST_LPIPS:
        return (
            f"attack.perceptual=lpips: needs images of {_SMALLEST_LPIPS}x{_SMALLEST_LPIPS} or more; take "
            "attack.perceptual=features"
        )
    if not (file := _alexnet()).is_file():
        return (
            f"attack.perceptual=lpips: its AlexNet is not at {file}; put it there, or take attack.perceptual=features"
        )
    return None


def distance(kind: Perceptual, own: ImageSet, domain: Domain, rng: Rng) -> Distance:
    """``lpips``: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018).

    ``features`` stands in where its network, trained on ImageNet, is not at hand: the same distance, with all channels
    counted alike, in the features of a small classifier of the adversary's ``own`` labelled images. ``none`` is zero.

    Raises UserError where ``unfit`` has a reason.
    """
    if reason := unfit(kind, domain):
        raise UserError(reason)
    if kind == "none":
        return lambda ours, theirs: ours.new_zeros(())
    if kind == "features":
        return _Features(_classifier(own, domain, rng), domain)
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # seconds, for those who want it

    net = LearnedPerceptualImagePatchSimilarity("alex").net.to(own.labels.device)

    def lpips(ours: Tensor, theirs: Tensor) -> Tensor:
        colours = [x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x for x in (ours, theirs)]
        mean: Tensor = net(*colours, normalize=True).mean()
        return mean

    return lpips


def _alexnet() -> Path:
    """Where torchvision keeps the weights that LPIPS takes."""
    name = AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    return Path(torch.hub.get_dir()) / "checkpoints" / name


class _Features:
    """Squared distance of unit feature vectors at every place, summed over the outputs of all convolutions."""

    def __init__(self, net: nn.Sequential, domain: Domain):
        self.net, self.domain = net, domain

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        a, b = self.domain.inputs(ours), self.domain.inputs(theirs)
        total = ours.new_zeros(())
        for layer in self.net:
            a, b = layer(a), layer(b)
            if isinstance(layer, nn.ReLU):
                total = total + _between_units(a, b).mean()
        return total


def _between_units(a: Tensor, b: Tensor) -> Tensor:
    """The squared distance of feature vectors ``[n, C, H, W]`` once each has unit length, without forming those."""
    by_a, by_b = a.square().sum(1), b.square().sum(1)
    unit_a, unit_b = by_a.add(_LEAST).rsqrt(), by_b.add(_LEAST).rsqrt()
    along = (a * b).sum(1) * unit_a * unit_b
    return by_a * unit_a * unit_a + by_b * unit_b * unit_b - 2 * along  # in this order exactly zero for the same


def _classifier(own: ImageSet, domain: Domain, rng: Rng) -> nn.Sequential:
    """Trained on all of ``own``; its convolutions."""
    layers: list[nn.Module] = []
    channels = domain.shape[0]
    for n, filters in enumerate(_FILTERS):
        layers += [nn.Conv2d(channels, filters, 3, stride=1 + (n > 0), padding=1), nn.ReLU()]
        channels = filters
    with seeded(rng.child("init")):
        features = nn.Sequential(*layers)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, domain.classes))
    net = nn.Sequential(features, head).to(own.labels.device)
    start = alike({name: w.clone() for name, w in net.state_dict().items()}, 1)
    data = labelled(own, domain, [torch.arange(len(own))])
    fitted = fit(Training(net, start, None, domain.loss, data, _SCHEDULE, [rng]))
    net.load_state_dict(replica(fitted.weights, 0))
    return features.requires_grad_(False)
