"""Scores reconstructed images against the originals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from privsweep.interface.data import Domain
from privsweep.interface.finite import finite
from privsweep.interface.guess import Reconstruction
from privsweep.interface.truth import Images
from privsweep.metric.assignment import match, nearest, reorder
from privsweep.metric.images import asr, mse, ssim
from privsweep.metric.names import IMAGES
from privsweep.metric.pixel_scale import canonical, paper

RECOVERED = 0.9  # a victim counts as recovered where the mean SSIM of its images is above
NEVER = "iterations_to_zero"  # the diagnostic that is infinite where it never happened


def score_reconstruction(
    guess: Reconstruction,
    truth: Images,
    domain: Domain,
    paper_scale: str | None,
    asr_threshold: float,
) -> tuple[dict[str, float | None], pd.DataFrame, Reconstruction]:
    """Metrics of the whole run, a table with one row a victim, and the guess in the order of the originals.

    The reconstruction is clamped to [0, 1] pixels, and the images behind one victim are matched to the
    originals. No victim is left out: a diverged one counts with its last finite iterate.

    Table: ``victim``, ``index`` (of its first image in the training split), ``indices`` (of all, apart by blanks,
    where there are several), ``mse``, ``psnr``, ``ssim`` and
    ``asr`` on [0, 1] pixels (means over its images), the same with ``_paper`` on ``paper_scale`` (none where
    that is None), of several images ``ssim_best``, that of the nearest pair, where the truth has other images
    ``mse_control``, ``ssim_control`` and ``asr_control`` against those, ``diverged``, ``label_accuracy`` where labels
    were guessed and are known (in any order, which an update does not tell), those of ``release_columns`` where the
    truth tells the nearest known images, and every diagnostic.

    Metrics: the means over victims under the same names, medians with ``_median``, ``recovered`` (share of
    victims whose images have a mean SSIM above 0.9). ``iterations_to_zero`` is the median alone, never being infinity,
    beside ``zero_share``. Those of ``release_metrics`` besides. What is not finite is None.

    Raises UserError for an unknown ``paper_scale``, ValueError for shapes that differ.
    """
    _check(guess, truth)
    images = guess.images.detach().cpu()
    whole = images.isfinite().flatten(1).all(1)
    pixels = domain.pixels(images).nan_to_num(0.5, 1.0, 0.0).clamp(0, 1)
    original = truth.pixels.detach().cpu()
    given = None if guess.labels is None else guess.labels.cpu()
    order = match(pixels, original, given, None if truth.labels is None else truth.labels.cpu())
    pixels = reorder(pixels, order)
    labels = None if given is None else reorder(given, order)
    matched = replace(guess, images=reorder(images, order), labels=labels)

    columns = _measures(pixels, original, domain, paper_scale, asr_threshold)
    if truth.others is not None:
        columns |= _control(pixels, truth.others.detach().cpu(), asr_threshold)
    columns["diverged"] = guess.diverged.cpu() | ~whole
    if labels is not None and truth.labels is not None:
        columns["label_accuracy"] = _labels_told(labels, truth.labels.cpu())
    if truth.nearest is not None:
        from privsweep.metric.release import release_columns, release_metrics  # here: it takes long to import

        columns |= release_columns(columns["mse"], original, truth.nearest)
    diagnostics = _diagnostics(guess, columns)

    victims = pd.DataFrame({"victim": range(len(images)), "index": truth.index[:, 0].cpu().numpy()})
    if truth.index.shape[1] > 1:
        victims["indices"] = [" ".join(map(str, row)) for row in truth.index.tolist()]
    for name, values in (columns | diagnostics).items():
        victims[name] = values.numpy()
    metrics = _summary(columns, diagnostics)
    if truth.nearest is not None:
        metrics |= release_metrics(columns, pixels, original)
    return metrics, victims, matched


def _check(guess: Reconstruction, truth: Images) -> None:
    """What an attack of the user's own may have mistaken. Raises ValueError."""
    for name, values in (("images", guess.images), ("diverged", guess.diverged), *_labels(guess), *_named(guess)):
        if not isinstance(values, Tensor):
            raise ValueError(f"the attack returns a {type(values).__name__} for its {name}; let it be a torch.Tensor")
    images, diverged = list(guess.images.shape), guess.diverged
    if not guess.images.is_floating_point():
        raise ValueError(
            f"the attack's images are {guess.images.dtype}; let it return what the network takes: "
            "known.domain.inputs(pixels), with pixels from 0 to 1"
        )
    if images != list(truth.pixels.shape):
        raise ValueError(
            f"the attack's images are {images}, the originals {list(truth.pixels.shape)} (victims, images of each, "
            "channels, height, width); let it return that shape"
        )
    if diverged.dtype != torch.bool or list(diverged.shape) != images[:1]:
        raise ValueError(
            f"the attack's diverged is {diverged.dtype} {list(diverged.shape)}; let it be torch.bool {images[:1]}, one "
            "for each victim"
        )
    for name, values in _named(guess):
        if list(values.shape) != images[:1]:
            raise ValueError(
                f"the attack's {name} is {list(values.shape)}; let it be {images[:1]}, one for each victim"
            )
    for _, values in _labels(guess):
        if values.dtype != torch.int64 or list(values.shape) != images[:2]:
            raise ValueError(
                f"the attack's labels are {values.dtype} {list(values.shape)}; let them be torch.int64 {images[:2]}, "
                "one for each image"
            )
    _check_curve(guess.curve, images[0])


def _check_curve(curve: Mapping[str, Tensor], victims: int) -> None:
    """Raises ValueError where it cannot be drawn."""
    if strange := next((name for name, values in curve.items() if not isinstance(values, Tensor)), None):
        raise ValueError(f"the attack's curve[{strange!r}] is no torch.Tensor; let it be one")
    shapes = {name: list(values.shape) for name, values in curve.items()}
    steps = shapes.pop("iteration", [])
    if curve and (len(steps) != 1 or not shapes):
        raise ValueError("the attack's curve has no 'iteration' [T] beside what is drawn by it; let it have both")
    for name, shape in shapes.items():
        if shape != [victims, *steps]:
            raise ValueError(
                f"the attack's curve[{name!r}] is {shape}; let it be {[victims, *steps]}, a value for each victim and "
                "iteration"
            )


def _labels(guess: Reconstruction) -> Iterator[tuple[str, Tensor]]:
    return ((name, values) for name, values in (("labels", guess.labels),) if values is not None)


def _named(guess: Reconstruction) -> Iterator[tuple[str, Tensor]]:
    return ((f"diagnostics[{name!r}]", values) for name, values in guess.diagnostics.items())


def unscored(guess: Reconstruction) -> tuple[dict[str, float | None], pd.DataFrame]:
    """What can be said without the originals: the same table and metrics, of divergence and diagnostics alone."""
    columns = {"diverged": guess.diverged.cpu() | ~guess.images.detach().cpu().isfinite().flatten(1).all(1)}
    diagnostics = _diagnostics(guess, columns)
    rows = pd.DataFrame({"victim": range(len(guess.images))})
    for name, values in (columns | diagnostics).items():
        rows[name] = values.numpy()
    return _means(columns) | _means_of_diagnostics(diagnostics), rows


def _diagnostics(guess: Reconstruction, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float64 ``[V]`` each, on the CPU."""
    if taken := columns.keys() & guess.diagnostics.keys():
        raise ValueError(f"diagnostics under the names of metrics: {', '.join(sorted(taken))}")
    return {name: values.detach().cpu().double() for name, values in guess.diagnostics.items()}


def _measures(
    pixels: Tensor, original: Tensor, domain: Domain, paper_scale: str | None, threshold: float
) -> dict[str, Tensor]:
    scales = {"": canonical} if paper_scale is None else {"": canonical, "_paper": paper(paper_scale)}
    columns, several = {}, pixels.shape[1] > 1
    pair = nearest(pixels, original) if several else (pixels, original)
    for suffix, scale in scales.items():
        values = scale(pixels, original, domain)
        for name in IMAGES:
            columns[name + suffix] = values[name].mean(1)
        columns["asr" + suffix] = asr(values["ssim"], threshold)
        if several:
            columns["ssim_best" + suffix] = scale(*pair, domain)["ssim"][:, 0]
    return columns


def _labels_told(told: Tensor, true: Tensor) -> Tensor:
    """The share of labels ``[V, N]`` that are told, whichever images they are told of: ``[V]``."""
    classes = int(true.max()) + 1
    known = torch.where((told < 0) | (told >= classes), classes, told)  # an attack of the user's may name any
    counts = [one_hot(labels, classes + 1).sum(1) for labels in (known, true)]
    return torch.minimum(*counts).sum(1).double() / true.shape[1]


def _control(pixels: Tensor, other: Tensor, threshold: float) -> dict[str, Tensor]:
    """The reconstructions matched to images that are not behind the update: what their assignment alone is worth."""
    pixels = reorder(pixels, match(pixels, other))
    found = ssim(pixels, other)
    return {
        "mse_control": mse(pixels, other).mean(1),
        "ssim_control": found.mean(1),
        "asr_control": asr(found, threshold),
    }


def _summary(columns: dict[str, Tensor], diagnostics: dict[str, Tensor]) -> dict[str, float | None]:
    recovered = {"recovered": _plain((columns["ssim"] > RECOVERED).double().mean())}
    return _means(columns) | recovered | _means_of_diagnostics(diagnostics)


def _means(columns: dict[str, Tensor]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for name, values in columns.items():
        metrics[name] = _plain(values.double().mean())
        if name.startswith(IMAGES):
            metrics[f"{name}_median"] = _median(values)
    return metrics


def _means_of_diagnostics(diagnostics: dict[str, Tensor]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for name, values in diagnostics.items():
        if name == NEVER:
            metrics[name] = _median(values)
            metrics["zero_share"] = _plain(values.isfinite().double().mean())
        else:
            metrics[name] = _plain(values.mean())
            metrics[f"{name}_median"] = _median(values)
    return metrics


def _median(values: Tensor) -> float | None:
    with np.errstate(invalid="ignore"):
        return _plain(np.median(values.numpy()))


def _plain(value: Tensor | np.floating) -> float | None:
    return finite(float(value))
