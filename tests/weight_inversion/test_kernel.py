"""Kernel ridge regression from weights to images."""

from __future__ import annotations

import torch
from informed_world import pictures
from sklearn.kernel_ridge import KernelRidge as Reference

from privsweep.interface.randomness import Rng
from privsweep.weight_inversion import kernel
from privsweep.weight_inversion.kernel import solve_kernel
from privsweep.weight_inversion.shadow_weights import ShadowWeights
from privsweep.weight_inversion.standardisation import fit_standardisation

CPU = torch.device("cpu")


def world(noise: float = 0.0) -> tuple[ShadowWeights, torch.Tensor]:
    """Sixty shadows and, of ten more models, the standardised weights."""
    records = pictures(70, "shadows")
    weights = records.pixels().flatten(1) @ Rng(1).normal(64, 6) + noise * Rng(2).normal(70, 6)
    own = ShadowWeights(weights[:60], records.take(torch.arange(60)))
    standardise, _ = fit_standardisation(own.weights, CPU, 0.5)
    return own, standardise(weights[60:])


def test_it_answers_as_the_textbook_does(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "RIDGES", (0.01,))
    monkeypatch.setattr(kernel, "_AT_ONCE", 7)
    own, asked = world()
    standardise, _ = fit_standardisation(own.weights, CPU, 0.5)
    usable = torch.arange(60) != 3
    rows, pixels = standardise(own.weights[usable]), own.records.pixels().flatten(1)[usable]
    length = rows.square().sum(1).mean().item()
    mean = pixels.mean(0)
    reference = Reference(alpha=0.01, kernel="rbf", gamma=0.5 / length).fit(rows.double(), (pixels - mean).double())
    expected = (torch.from_numpy(reference.predict(asked.double())) + mean).clamp(0, 1)
    found = solve_kernel(own, usable, standardise, Rng(0))(asked)
    assert found.shape == (10, 1, 8, 8)
    torch.testing.assert_close(found.flatten(1).double(), expected, rtol=0, atol=1e-5)


def test_the_ridge_grows_with_the_noise() -> None:
    chosen = []
    for noise in (0.0, 100.0):
        own, _ = world(noise)
        standardise, _ = fit_standardisation(own.weights, CPU, 0.5)
        net = solve_kernel(own, torch.ones(60, dtype=torch.bool), standardise, Rng(0))
        chosen.append(net.coefficients.abs().mean().item())
    assert chosen[1] < 0.3 * chosen[0]


def test_shadows_that_are_all_alike_are_answered_with_their_mean() -> None:
    own, _ = world()
    alike = ShadowWeights(own.weights[:1].expand(60, -1).contiguous(), own.records)
    standardise, usable = fit_standardisation(alike.weights, CPU, 0.5)
    found = solve_kernel(alike, usable, standardise, Rng(0))(standardise(alike.weights[:1]))
    torch.testing.assert_close(found[0], own.records.pixels().mean(0), rtol=0, atol=1e-3)
