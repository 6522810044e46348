"""How far a head's features are from those that a server has received: by their moments, for it knows no image.

Own images and queries are of about the same kind, so that a head which is like the client's gives features with the
same moments (ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

_CELLS = 4  # cells a side in which the mean of a map is compared, at most
_LAGS = ((0, 0), (0, 1), (1, 0), (1, 1))  # in pixels; apart from the first, what tells a filter from its mirror image
_LEAST = 0.1  # of the channels' mean deviation: one that is nearly the same for all says little, and counts for little


@dataclass(frozen=True)
class Moments:
    """Of features: where they are large, and how channels go together.

    In units of each channel's standard deviation around the mean at its position, or of a tenth of what channels have
    on average, if that is more: a channel may never be active. Products are of what is left when that mean is
    subtracted, so that what a client adds to every query alike drops out of them. Images are brighter in some places
    than in others: means by place tell a head from one that sees the negative.
    """

    deviation: Tensor  # [C]
    means: Tensor  # [C, k, k], by cell
    products: Tensor  # [lags, C, C]: covariances of channels, at the same position and a pixel apart

    @classmethod
    def of(cls, z: Tensor) -> Self:
        """Of features ``[Q, ...]``, of two queries or more."""
        z = _maps(z)
        deviation = _left(z, z.mean(0)).square().mean((0, 2, 3)).sqrt()
        deviation = deviation.maximum(_LEAST * deviation.mean())
        return cls(deviation, *_moments(z, deviation))

    def distance(self, z: Tensor) -> Tensor:
        """The mean squared difference of means and that of products, added up, from a batch ``[B, ...]``; ``[]``."""
        means, products = _moments(_maps(z), self.deviation)
        return (means - self.means).square().mean() + (products - self.products).square().mean()


class DistanceOf(nn.Module):
    """A head whose output ``[B, 1]`` is how far its features of the batch are from ``received``, for every example."""

    def __init__(self, head: nn.Sequential, received: Moments):
        super().__init__()
        self.head, self.received = head, received

    def forward(self, x: Tensor) -> Tensor:
        return self.received.distance(self.head(x)).expand(len(x), 1)


def _maps(z: Tensor) -> Tensor:
    """``[n, C, H, W]``; features that are no maps have one position."""
    return z if z.dim() == 4 else z.flatten(1)[..., None, None]


def _left(z: Tensor, mean: Tensor) -> Tensor:
    """What is left without the mean, its squares scaled up to those of a large sample."""
    return (z - mean) * (len(z) / max(1, len(z) - 1)) ** 0.5


def _moments(z: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    _, _, height, width = z.shape
    z = z / deviation[:, None, None]
    mean = z.mean(0)
    left = _left(z, mean)
    products = []
    for down, right in _LAGS:
        if down < height and right < width:
            one = left[:, :, : height - down, : width - right].transpose(0, 1).flatten(1)
            other = left[:, :, down:, right:].transpose(0, 1).flatten(1)
            products.append(one @ other.T / one.shape[1])
    return adaptive_avg_pool2d(mean, (min(height, _CELLS), min(width, _CELLS))), torch.stack(products)
