"""The numbers of a record."""

import dataclasses
import json
import math

import pytest
import torch

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.truth import Images
from privsweep.metric.assignment import reorder
from privsweep.metric.images import mse, ssim
from privsweep.metric.reconstruction import score_reconstruction

DOMAIN = Domain((1, 8, 8), 4, (0.4,), (0.5,))


def game(victims=5, images=3, noise=0.05, **changes):
    pixels = torch.rand(victims, images, 1, 8, 8, generator=Rng(0).generator())
    labels = torch.arange(victims * images).remainder(4).reshape(victims, images)
    truth = Images(pixels, labels, torch.arange(victims * images).reshape(victims, images) + 100)
    guess = (pixels + noise * Rng(1).normal(*pixels.shape)).clamp(0, 1)
    fields = {"images": DOMAIN.inputs(guess), "diverged": torch.zeros(victims, dtype=torch.bool)} | changes
    return Reconstruction(**fields), truth


def run(guess, truth, scale="zen", threshold=0.6):
    return score_reconstruction(guess, truth, DOMAIN, scale, threshold)[:2]


def test_one_row_a_victim_and_means_over_them():
    guess, truth = game()
    metrics, victims = run(guess, truth)
    pixels = DOMAIN.pixels(guess.images).clamp(0, 1)
    assert victims["victim"].tolist() == [0, 1, 2, 3, 4]
    assert victims["index"].tolist() == [100, 103, 106, 109, 112]
    assert victims["mse"].tolist() == pytest.approx(mse(pixels, truth.pixels).mean(1).tolist(), abs=1e-7)
    assert victims["ssim"].tolist() == pytest.approx(ssim(pixels, truth.pixels).mean(1).tolist(), abs=1e-5)
    measured = ("mse", "psnr", "ssim", "mse_paper", "psnr_paper", "ssim_paper")
    for name in (*measured, "asr", "asr_paper", "diverged"):
        assert metrics[name] == pytest.approx(victims[name].mean())
    for name in measured:
        assert metrics[f"{name}_median"] == pytest.approx(victims[name].median())
    assert metrics["mse_paper"] == pytest.approx(metrics["mse"] * 255**2)


def test_an_exact_reconstruction():
    metrics, _ = run(*game(noise=0))
    assert metrics["mse"] == pytest.approx(0, abs=1e-12)
    assert metrics["psnr"] == 100
    assert (metrics["asr"], metrics["recovered"], metrics["diverged"]) == (1, 1, 0)
    assert "label_accuracy" not in metrics


def test_recovered_and_asr_have_thresholds_of_their_own():
    guess, truth = game(victims=2, images=1, noise=0)
    spoilt = torch.stack([guess.images[0], guess.images[1] + 0.3 * Rng(3).normal(1, 1, 8, 8)])
    metrics, victims = run(dataclasses.replace(guess, images=spoilt), truth)
    assert 0.6 < victims["ssim"][1] < 0.9
    assert (metrics["asr"], metrics["recovered"]) == (1, 0.5)
    assert run(dataclasses.replace(guess, images=spoilt), truth, threshold=0.95)[0]["asr"] == 0.5


def test_a_victim_is_recovered_by_the_mean_of_its_images():
    guess, truth = game(victims=2, images=3, noise=0)
    spoilt = guess.images.clone()
    spoilt[0, 0] = spoilt[0, 0] + 0.4 * Rng(3).normal(1, 8, 8)
    spoilt[1, 0] = 0
    metrics, victims = run(dataclasses.replace(guess, images=spoilt), truth)
    least = ssim(DOMAIN.pixels(spoilt).clamp(0, 1), truth.pixels).amin(1)
    assert least[0] < 0.9 < victims["ssim"][0]
    assert victims["ssim"][1] < 0.9
    assert metrics["recovered"] == 0.5


def test_the_order_within_a_batch_does_not_matter():
    guess, truth = game(labels=torch.arange(15).remainder(4).reshape(5, 3))
    shuffle = torch.stack([Rng(v).permutation(3) for v in range(5)])
    shuffled = dataclasses.replace(guess, images=reorder(guess.images, shuffle), labels=reorder(guess.labels, shuffle))
    one, other = run(guess, truth), run(shuffled, truth)
    assert one[0] == other[0]
    assert one[1].equals(other[1])
    assert one[0]["label_accuracy"] == 1


@pytest.mark.parametrize(
    ("mistaken", "told"),
    [
        ({"labels": [0, 1]}, "returns a list for its labels"),
        ({"labels": torch.zeros(5).long()}, r"labels are torch\.int64 \[5\]; let them be torch\.int64 \[5, 3\]"),
        ({"labels": torch.zeros(5, 3)}, r"labels are torch\.float32"),
        ({"curve": {"loss": torch.zeros(5, 2)}}, "has no 'iteration'"),
        ({"curve": {"iteration": torch.arange(2)}}, "beside what is drawn by it"),
        ({"curve": {"loss": torch.zeros(2), "iteration": torch.arange(2)}}, r"'loss'\] is \[2\]; let it be \[5, 2\]"),
        ({"curve": {"loss": [0.0], "iteration": torch.arange(1)}}, r"'loss'\] is no torch\.Tensor"),
    ],
)
def test_mistaken_labels_and_curves_are_named(mistaken, told):
    with pytest.raises(ValueError, match=told):
        run(*game(**mistaken))


def test_guessed_labels_are_scored():
    guess, truth = game(images=1, labels=torch.tensor([[0], [1], [2], [3], [3]]))
    metrics, victims = run(guess, truth)
    assert victims["label_accuracy"].tolist() == [1, 1, 1, 1, 0]
    assert metrics["label_accuracy"] == 0.8


def test_labels_of_several_images_are_right_in_any_order():
    guess, truth = game(victims=3, images=3, labels=torch.tensor([[2, 0, 1], [0, 0, 1], [7, -1, 1]]))
    noise = torch.rand(guess.images.shape, generator=torch.Generator().manual_seed(1))
    truth = dataclasses.replace(truth, labels=torch.tensor([[0, 1, 2], [0, 1, 1], [0, 1, 2]]))
    _, victims = run(dataclasses.replace(guess, images=noise), truth)
    assert victims["label_accuracy"].tolist() == pytest.approx([1, 2 / 3, 1 / 3])


def test_diverged_victims_count_with_their_last_iterate_clamped():
    guess, truth = game(victims=2, images=1, noise=0)
    wild = torch.stack([guess.images[0], torch.full((1, 1, 8, 8), 1e30)])
    guess = dataclasses.replace(guess, images=wild, diverged=torch.tensor([False, True]))
    metrics, victims = run(guess, truth)
    white = (1 - truth.pixels[1]).square().mean().item()
    assert victims["mse"][1] == pytest.approx(white)
    assert metrics["mse"] == pytest.approx(white / 2)
    assert metrics["diverged"] == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scale", ["zen", "precode", None])
def test_values_that_are_not_finite_leave_no_trace_but_divergence(value, scale):
    guess, truth = game()
    guess.images[2, 0, 0, 0, 0] = value
    metrics, victims = run(guess, truth, scale)
    assert metrics["diverged"] == 0.2
    assert victims["diverged"].tolist() == [False, False, True, False, False]
    assert all(math.isfinite(number) for number in metrics.values())
    assert not victims.isna().any(axis=None)


def test_diagnostics_stand_beside_the_metrics():
    diagnostics = {
        "objective": torch.tensor([1.0, 2, 3, 4, 10]),
        "burst": torch.tensor([1.0, 2, 3, 4, math.inf]),
        "iterations_to_zero": torch.tensor([10.0, 20, 30, math.inf, math.inf]),
    }
    metrics, victims = run(*game(diagnostics=diagnostics))
    assert (metrics["objective"], metrics["objective_median"]) == (4, 3)
    assert (metrics["burst"], metrics["burst_median"]) == (None, 3)
    assert (metrics["iterations_to_zero"], metrics["zero_share"]) == (30, 0.6)
    assert victims["iterations_to_zero"].tolist() == [10, 20, 30, math.inf, math.inf]


def test_half_of_the_victims_never_at_zero_is_never():
    steps = torch.tensor([10.0, 20, math.inf, math.inf])
    metrics, _ = run(*game(victims=4, diagnostics={"iterations_to_zero": steps}))
    assert (metrics["iterations_to_zero"], metrics["zero_share"]) == (None, 0.5)


def test_a_diagnostic_does_not_replace_a_metric():
    with pytest.raises(ValueError, match="ssim"):
        run(*game(diagnostics={"ssim": torch.ones(5)}))


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool])
def test_metrics_are_plain_numbers(kind):
    diagnostics = {"stopped": torch.ones(5, dtype=kind)}
    metrics, _ = run(*game(diagnostics=diagnostics, labels=torch.zeros(5, 3).long()))
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert {type(number) for number in metrics.values()} == {float}


def test_the_papers_columns_are_left_out_on_request():
    metrics, victims = run(*game(), scale=None)
    assert not [name for name in (*metrics, *victims) if "paper" in name]


def test_an_unknown_scale_is_refused():
    with pytest.raises(UserError, match="zen, precode"):
        run(*game(), scale="percent")


def test_the_attacks_own_tensors_are_untouched():
    guess, truth = game()
    before = guess.images.clone(), truth.pixels.clone()
    run(guess, truth)
    assert torch.equal(guess.images, before[0])
    assert torch.equal(truth.pixels, before[1])


def test_the_guess_comes_back_in_the_order_of_the_originals():
    guess, truth = game(noise=0)
    *_, matched = score_reconstruction(guess, truth, DOMAIN, "zen", 0.6)
    assert torch.allclose(DOMAIN.pixels(matched.images), truth.pixels, atol=1e-6)


def test_a_control_matches_the_same_reconstructions_to_images_that_were_not_attacked():
    guess, truth = game(noise=0)
    assert "ssim_control" not in run(guess, truth)[0]
    shuffled = dataclasses.replace(truth, others=truth.pixels.flip(1))
    assert run(guess, shuffled)[0]["ssim_control"] == pytest.approx(1)
    strange = dataclasses.replace(truth, others=1 - truth.pixels)
    metrics, victims = run(guess, strange)
    assert metrics["ssim_control"] < 0.5 < metrics["ssim"]
    assert victims["mse_control"].mean() == metrics["mse_control"] > metrics["mse"]
    assert metrics["asr_control"] == 0
