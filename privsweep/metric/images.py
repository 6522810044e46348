"""How close a reconstructed image is to its original: one number per image, never pooled.

Images are ``[V, N, C, H, W]``, results float64 ``[V, N]``; every function computes in float64 and in slices
of bounded memory. ``data_range`` is the span of the values, 1 for ``[0, 1]`` pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

PSNR_CAP = 100.0  # dB: a perfect image counts as this much, so that means stay finite
_WINDOW = 7  # pixels, the default of scikit-image
_K1, _K2 = 0.01, 0.03
_CHUNK = 256  # images at once


def mse(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over channels and pixels."""
    return _per_image(lambda g, t: (g - t).square().mean((1, 2, 3)), guess, truth)


def psnr(guess: Tensor, truth: Tensor, data_range: float | Tensor = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, at most ``PSNR_CAP``; ``data_range`` may be ``[V, N]``.

    Not torchmetrics': that takes one range for all images and its logarithm in float32, which is 1e-6 dB off.
    """
    error = mse(guess, truth)
    peak = torch.as_tensor(data_range, dtype=error.dtype, device=error.device)
    return (10 * torch.log10(peak.square() / error)).clamp(max=PSNR_CAP)


def ssim(guess: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al., 2004) in [-1, 1], the mean over channels and window positions.

    Uniform 7x7 windows (the largest odd window that fits a smaller image) that lie wholly inside the image,
    unbiased variances: the definition of ``skimage.metrics.structural_similarity`` with its defaults, which
    it equals to 1e-6. torchmetrics takes biased variances, which differs by 0.002 at most, and counts windows that lie
    half on a mirrored border, which for noise on photographs of 32x32 lowers a value by up to 0.14; it takes ten times
    as long.
    """
    return _per_image(lambda g, t: _ssim(g, t, data_range), guess, truth)


def asr(similarity: Tensor, threshold: float) -> Tensor:
    """Attack success rate of every victim, ``[V]``: the share of its images with SSIM >= threshold.

    Source: PRECODE, section 4, with threshold 0.6.
    """
    return (similarity >= threshold).double().mean(1)


def _ssim(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """[n, C, H, W] float64 -> [n]."""
    side = min(_WINDOW, *a.shape[-2:])
    side -= 1 - side % 2
    count = side**2
    unbiased = count / max(count - 1, 1)

    def local(x: Tensor) -> Tensor:
        return avg_pool2d(x, side, stride=1)

    mean_a, mean_b = local(a), local(b)
    var_a = unbiased * (local(a * a) - mean_a**2)
    var_b = unbiased * (local(b * b) - mean_b**2)
    cov = unbiased * (local(a * b) - mean_a * mean_b)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def _per_image(measure: Callable[[Tensor, Tensor], Tensor], guess: Tensor, truth: Tensor) -> Tensor:
    if guess.shape != truth.shape:
        raise ValueError(f"reconstructions {tuple(guess.shape)} and originals {tuple(truth.shape)} differ in shape")
    pairs = zip(guess.flatten(0, 1).split(_CHUNK), truth.flatten(0, 1).split(_CHUNK), strict=True)
    return torch.cat([measure(g.double(), t.double()) for g, t in pairs]).unflatten(0, guess.shape[:2])
