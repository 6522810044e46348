from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import nn

from privsweep.attack.analytic import Analytic
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update
from privsweep.interface.truth import Images
from privsweep.metric.score import score
from privsweep.model.mlp import MLP
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import load
from privsweep.run.run_spec import signed

ATTACK = Analytic(agreement=1e-3, most_probable=False)
DOMAIN = Domain(shape=(1, 8, 8), classes=10, mean=(0.0,), std=(1.0,))


def mlp(width: int = 128) -> MLP:
    return MLP(width=width, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)


def exposed(data: Data, **changes: object) -> Exposure:
    setting = fedavg(**{"rounds": 0, "victims": 4, **changes})
    system = setting.train(data, mlp(), Stack({}), Rng(0), Bench())
    return setting.views()[0].expose(system, data, mlp(), Stack({}), Rng(0))


@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_a_single_image_is_recovered_exactly(data: Data, what: str) -> None:
    out = exposed(data, capture=capture(what=what), optimizer="sgd", lr=0.1, local_epochs=1)
    guess = ATTACK(out.seen, out.known, {}, Bench(), Rng(0))
    metrics, *_ = score(guess, out.truth, data.domain, "zen", 0.6)
    assert metrics["ssim"] > 0.999  # type: ignore[operator]
    assert metrics["psnr"] > 60  # type: ignore[operator]
    assert metrics["label_accuracy"] == 1


def test_separable_batches_are_recovered_in_some_order(data: Data) -> None:
    out = exposed(data, capture=capture(batch_size=3))
    metrics, *_ = score(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)), out.truth, data.domain, "zen", 0.6)
    assert metrics["recovered"] > 0.6  # type: ignore[operator]
    assert metrics["label_accuracy"] > 0.6  # type: ignore[operator]


def test_a_batch_before_relu_is_recovered_whole(data: Data) -> None:
    out = exposed(data, capture=capture(batch_size=10), victims=2)
    metrics, *_ = score(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)), out.truth, data.domain, "zen", 0.6)
    assert metrics["recovered"] == 1
    assert metrics["label_accuracy"] == 1


def test_a_convolution_first_is_said_to_be_out_of_reach() -> None:
    reason = ATTACK.fits(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), DOMAIN, None)
    assert reason is not None
    assert "model=smlp" in reason
    assert ATTACK.fits(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), DOMAIN, None) is None


def test_a_layer_that_sees_a_part_of_the_image_or_answers_with_other_numbers_is_not_taken() -> None:
    by_rows = nn.Sequential(nn.Linear(8, 4), nn.Flatten(), nn.Linear(32, 10))
    assert "see the whole image" in str(ATTACK.fits(by_rows, DOMAIN, None))
    answers = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Unflatten(1, (5, 2, 2)), nn.Conv2d(5, 10, 2))
    assert "must end in a linear layer" in str(ATTACK.fits(answers, DOMAIN, None))


def noisy(clean: Exposure, relative: float) -> tuple[Exposure, torch.Tensor]:
    """The same with noise on every gradient, and the least mean squared error that it leaves of each input.

    ``relative``: the noise's deviation, in norms of the first layer's bias gradient.
    """
    sent = clean.seen
    assert isinstance(sent, Update)
    norms = sent.delta["fc1.bias"].norm(dim=1)
    sigma, draw = relative * float(norms.mean()), torch.Generator().manual_seed(1)
    delta = {name: d + sigma * torch.randn(d.shape, generator=draw) for name, d in sent.delta.items()}
    return replace(clean, seen=replace(sent, delta=delta)), (sigma / norms).square()


def squared_errors(out: Exposure, attack: Analytic = ATTACK, own: ImageSet | None = None) -> torch.Tensor:
    assert isinstance(out.truth, Images)
    known = out.known if own is None else out.known.having(prior=own)
    guess = attack(out.seen, known, attack.prepare(known, Bench(), Rng(0)), Bench(), Rng(0))
    return (guess.images - DOMAIN.inputs(out.truth.pixels)).square().flatten(1).mean(1)


@pytest.mark.parametrize("relative", [0.01, 0.05, 0.1])
def test_noise_is_averaged_out_over_units_and_pixels(data: Data, relative: float) -> None:
    out, least = noisy(exposed(data, victims=16), relative)
    # Who knows the units' errors is left with ``least``; an input's norm, from the bias gradient alone, would add as
    # much again. Dividing by the noisy bias gradients would leave most of the image: 128 units square their noise.
    assert squared_errors(out).mean() < 1.5 * least.mean()


def test_what_noise_leaves_is_filled_in_by_what_images_look_like(data: Data) -> None:
    out, _ = noisy(exposed(data, victims=16), 0.3)
    likely = replace(ATTACK, most_probable=True)
    assert squared_errors(out, likely, data.train).mean() < 0.3 * squared_errors(out).mean()


def test_a_clipped_update_is_not_taken_for_that_of_other_errors(data: Data) -> None:
    whole, _ = noisy(exposed(data, victims=16), 0.3)
    assert isinstance(whole.seen, Update)
    clipped = replace(whole, seen=replace(whole.seen, delta={n: 0.1 * d for n, d in whole.seen.delta.items()}))
    likely = replace(ATTACK, most_probable=True)
    assert squared_errors(clipped, likely, data.train).mean() < 0.4 * squared_errors(clipped).mean()


def test_where_noise_hides_everything_the_mean_of_own_images_is_left(data: Data) -> None:
    out, _ = noisy(exposed(data, victims=4), 30.0)
    likely = replace(ATTACK, most_probable=True)
    known = out.known.having(prior=data.train)
    guess = likely(out.seen, known, likely.prepare(known, Bench(), Rng(0)), Bench(), Rng(0)).images
    mean = DOMAIN.inputs(data.train.images / 255).mean(0)
    assert (guess - mean).square().mean() < 0.2 * mean.square().mean()


def test_images_that_are_told_exactly_stay_as_they_are(data: Data) -> None:
    out = exposed(data)
    assert squared_errors(out, replace(ATTACK, most_probable=True), data.train).max() < 1e-6


def test_most_probable_images_need_images_and_single_ones(tmp_path: Path) -> None:
    asked = ["attack=analytic", "attack.most_probable=true", "scale=smoke", f"output_dir={tmp_path}"]
    with searching(None):
        with pytest.raises(UserError, match=r"attack\.most_probable=true: under a Gaussian of 20 images at least"):
            load(build(compose([*asked, "dataset.prior_size=10"])))
        asked += ["dataset.prior_size=50"]
        with pytest.raises(UserError, match=r"2 here, and tells 1 apart; take attack\.most_probable=false"):
            load(build(compose([*asked, "fl_setting.capture.batch_size=2"])))
        left = build(compose([*asked, "attack.most_probable=false"]))
    without = {k: v for k, v in left.config["attack"].items() if k != "most_probable"}
    assert signed({**left.config, "attack": without}, left.parts) == left.signature


@pytest.mark.parametrize("fraction", [0.6, 0.9])
def test_pruning_hides_no_more_than_what_it_takes_away(data: Data, fraction: float) -> None:
    clean = exposed(data)
    assert isinstance(clean.seen, Update)
    pruning = GradientPruning(fraction=fraction, keep="rest", scope="tensor")
    delta = dict(pruning.gradient({name: d[0] for name, d in clean.seen.delta.items()}, 1, Rng(0)))
    out = replace(clean, seen=replace(clean.seen, delta={name: d[None] for name, d in delta.items()}))
    assert isinstance(out.truth, Images)
    guess = ATTACK(out.seen, out.known, {}, Bench(), Rng(0)).images[0].flatten()
    told = delta["fc1.weight"].any(0)  # pixels of which any unit's gradient is left
    assert told.sum() > 10
    torch.testing.assert_close(guess[told], DOMAIN.inputs(out.truth.pixels[0]).flatten()[told], rtol=1e-3, atol=1e-3)
    assert not guess[~told].any()


def test_without_a_bias_gradient_pruning_leaves_the_image_up_to_its_norm(data: Data) -> None:
    clean = exposed(data)
    assert isinstance(clean.seen, Update)
    pruning = GradientPruning(fraction=0.6, keep="rest", scope="tensor")
    each = [pruning.gradient({name: d[v] for name, d in clean.seen.delta.items()}, 1, Rng(0)) for v in range(4)]
    delta = {name: torch.stack([d[name] for d in each]) for name in each[0]}
    delta["fc1.bias"] = torch.zeros_like(delta["fc1.bias"])
    out = replace(clean, seen=replace(clean.seen, delta=delta))
    assert isinstance(out.truth, Images)
    guess = ATTACK(out.seen, out.known, {}, Bench(), Rng(0)).images.flatten(1)
    truth = DOMAIN.inputs(out.truth.pixels).flatten(1)
    assert (torch.cosine_similarity(guess, truth) > 0.99).all()
    assert (guess.norm(dim=1) / truth.norm(dim=1)).sub(1).abs().max() < 0.25


@pytest.mark.parametrize("relative", [1e-4, 1e-3])
def test_noise_does_not_hide_the_images_of_a_batch(data: Data, relative: float) -> None:
    out, _ = noisy(exposed(data, capture=capture(batch_size=2)), relative)
    metrics, *_ = score(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)), out.truth, data.domain, "zen", 0.6)
    assert metrics["recovered"] == 1


def test_a_batch_among_others_is_answered_as_it_is_alone(data: Data) -> None:
    out, _ = noisy(exposed(data, capture=capture(batch_size=2)), 1e-3)
    assert isinstance(out.seen, Update)
    alone = ATTACK(out.seen.take(slice(2, 3)), out.known, {}, Bench(), Rng(0)).images
    torch.testing.assert_close(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)).images[2:3], alone)


def test_where_noise_hides_the_sign_the_network_tells_it(data: Data) -> None:
    clean = exposed(data, victims=16)
    assert isinstance(clean.seen, Update)
    turned = dict(clean.seen.delta) | {"fc1.bias": torch.zeros_like(clean.seen.delta["fc1.bias"])}
    out = replace(clean, seen=replace(clean.seen, delta=turned))
    spoilt, _ = noisy(clean, 0.05)
    assert isinstance(spoilt.seen, Update)
    spoilt = replace(spoilt, seen=replace(spoilt.seen, delta={**spoilt.seen.delta, "fc1.bias": turned["fc1.bias"]}))
    assert isinstance(out.truth, Images)
    guess = ATTACK(spoilt.seen, out.known, {}, Bench(), Rng(0)).images.flatten(1)
    truth = DOMAIN.inputs(out.truth.pixels).flatten(1)
    assert (torch.cosine_similarity(guess, truth) > 0.9).all()  # without a bias gradient there is only the network


def test_under_noise_a_victims_answer_does_not_depend_on_the_others(data: Data) -> None:
    out, _ = noisy(exposed(data), 0.2)
    assert isinstance(out.seen, Update)
    alone = ATTACK(out.seen.take(slice(2, 3)), out.known, {}, Bench(), Rng(0)).images
    torch.testing.assert_close(ATTACK(out.seen, out.known, {}, Bench(), Rng(0)).images[2:3], alone)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_gradient_of_zeros_is_answered_by_zeros(data: Data, batch: int) -> None:
    out = exposed(data, capture=capture(batch_size=batch))
    assert isinstance(out.seen, Update)
    none = {name: torch.zeros_like(d) for name, d in out.seen.delta.items()}
    guess = ATTACK(replace(out.seen, delta=none), out.known, {}, Bench(), Rng(0))
    assert not guess.images.any()


def test_a_batchs_gradient_that_is_not_finite_diverges_alone(data: Data) -> None:
    out = exposed(data, capture=capture(batch_size=2))
    assert isinstance(out.seen, Update)
    out.seen.delta["fc1.weight"][1, 0, 0] = torch.inf
    assert ATTACK(out.seen, out.known, {}, Bench(), Rng(0)).diverged.tolist() == [False, True, False, False]
