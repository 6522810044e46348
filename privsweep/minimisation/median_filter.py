"""The median filter that Geiping et al. (2020) pass images through now and then while they search for them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

EVERY = 500  # iterations, in their code


def median_filter(images: Tensor) -> Tensor:
    """Every pixel becomes the median of the 3x3 around it; mirrored at the border. ``[B, C, H, W]``.

    Where a side is of one pixel, which nothing mirrors, that is repeated.
    """
    for axis, frame in ((2, (0, 0, 1, 1)), (3, (1, 1, 0, 0))):
        images = pad(images, frame, mode="reflect" if images.shape[axis] > 1 else "replicate")
    around = images.unfold(2, 3, 1).unfold(3, 3, 1)
    return around.flatten(-2).median(-1).values
