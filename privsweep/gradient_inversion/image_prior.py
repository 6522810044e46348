"""A Gaussian of images, fitted to the adversary's own: it fills in what a noisy gradient leaves open.

Probabilistic principal components (Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999, equations 7
and 8): the directions in which images vary most each have a variance of their own, all others one in common. Inversion
as a search for the most probable image is Balunovic et al.'s ("Bayesian Framework for Gradient Leakage", 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.randomness import Rng

LEAST = 20  # images
_LARGEST = 10_000  # images that it is fitted to
_SHARE = 10  # one in so many is held back to choose the number of directions by
_MOST = 512  # directions of one that is evaluated again and again, which costs their number times that of the pixels
_LEVELS = 255  # of a pixel: no variance is below that of rounding to one


@dataclass(frozen=True)
class ImagePrior:
    """Of images on the scale of model inputs, flat: ``[D]``."""

    mean: Tensor  # [D]
    directions: Tensor  # [k, D], of length one and orthogonal
    variances: Tensor  # [k] along them
    rest: Tensor  # [], along all others
    weight: float = 1.0

    @classmethod
    def fitted(cls, domain: Domain, images: ImageSet, rng: Rng, most: int = _MOST) -> ImagePrior:
        """With as many directions, up to ``most``, as make images that were held back most likely."""
        chosen = rng.permutation(len(images))[:_LARGEST].to(images.images.device)
        flat = domain.inputs_of(images, chosen).flatten(1)
        kept = torch.arange(len(flat), device=flat.device) % _SHARE != 0
        own, held = flat[kept], flat[~kept]
        mean = own.mean(0)
        _, deviations, directions = torch.linalg.svd(own - mean, full_matrices=False)
        variances = deviations.square() / len(own)
        total, pixels = variances.sum(), flat.shape[1]
        least = 1 / (12 * _LEVELS**2 * max(domain.std) ** 2)
        made = []
        for count in _counts(min(len(own) - 1, pixels - 1, most)):
            rest = ((total - variances[:count].sum()) / (pixels - count)).clamp_min(least)
            made.append(cls(mean, directions[:count], variances[:count].clamp_min(rest), rest))
        return max(made, key=lambda prior: prior.log_likelihood(held).item())

    @classmethod
    def of(cls, tensors: Tensors, weight: float, like: Tensor) -> ImagePrior:
        """From ``tensors()``, in the dtype and on the device of ``like``."""
        return cls(**{name: tensor.to(like) for name, tensor in tensors.items()}, weight=weight)

    def tensors(self) -> Tensors:
        return {"mean": self.mean, "directions": self.directions, "variances": self.variances, "rest": self.rest}

    def log_likelihood(self, images: Tensor) -> Tensor:
        """Of ``images`` ``[n, D]``: the sum, but for a constant an image."""
        away = images - self.mean
        volume = self.variances.log().sum() + (images.shape[1] - len(self.variances)) * self.rest.log()
        return -0.5 * ((away * self._precise(away)).sum() + len(images) * volume)

    def add_penalty(self, images: Tensor, gradient: Tensor) -> Tensor:
        """``weight`` times the squared Mahalanobis distance of a victim's images ``[V, B, C, H, W]``, summed: ``[V]``.

        Its gradient is added to ``gradient`` in place. With the variance of independent noise on a captured gradient
        for weight, this and the squared distance to it are least at the most probable images.
        """
        away = images.flatten(2) - self.mean
        pulled = self._precise(away)
        gradient.add_(pulled.view_as(gradient), alpha=2 * self.weight)
        return self.weight * (away * pulled).sum((1, 2))

    def most_probable(self, images: Tensor, variance: Tensor) -> Tensor:
        """Of all images, given ``images`` ``[V, D]`` with independent noise of ``variance`` ``[V]`` in every entry.

        The posterior's mean, too (Wiener's filter).
        """
        away, noise = images - self.mean, (self.weight * variance)[:, None]
        everywhere = self.rest / (self.rest + noise)
        along = self.variances / (self.variances + noise) - everywhere
        return self.mean + everywhere * away + ((away @ self.directions.mT) * along) @ self.directions

    def _precise(self, away: Tensor) -> Tensor:
        """The inverse of the covariance times ``away`` ``[..., D]``."""
        narrower = 1 / self.variances - 1 / self.rest
        return away / self.rest + ((away @ self.directions.mT) * narrower) @ self.directions


def _counts(most: int) -> list[int]:
    """Numbers of directions that are tried: powers of two, and the most."""
    return sorted({*(2**n for n in range(most.bit_length()) if 2**n <= most), most})
