"""A malicious server's weights."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_world import seen_by_attack
from captured_world import of_a_tiny_lenet
from tiny import FITTING, Bench
from torch import nn

from privsweep.attack.imprint import Imprint
from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Update
from privsweep.interface.truth import Images
from privsweep.metric.score import score
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.planted import planted
from privsweep.run.run import exposure_for
from privsweep.run.with_data import prior_of

DOMAIN = Domain(shape=(1, 8, 8), classes=10, mean=(0.0,), std=(1.0,))
SMALL = (
    "attack=imprint", "model=smlp", "model.width=256", "dataset=digits", "dataset.train_size=200",
    "dataset.test_size=20", "dataset.prior_size=200", "fl_setting.rounds=0", "fl_setting.victims=3",
)  # fmt: skip


def attacked(*overrides: str) -> tuple[Exposure, Reconstruction, dict[str, Any]]:
    spec, out = seen_by_attack([*SMALL, *overrides])
    guess = spec.attack(out.seen, out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    metrics, *_ = score(guess, out.truth, out.known.domain, "zen", 0.6)
    return out, guess, dict(metrics)


@pytest.mark.parametrize("model", ["smlp", "dmlp"])
@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_a_batch_comes_out_exactly(model: str, what: str) -> None:
    *_, metrics = attacked(
        f"model={model}", "model.width=256", "fl_setting.capture.batch_size=8", f"fl_setting.capture.what={what}",
        "fl_setting.optimizer=sgd", "fl_setting.local_epochs=1",
    )  # fmt: skip
    assert metrics["recovered"] == 1
    assert metrics["ssim"] > 0.99


def test_the_sum_of_many_clients_hides_little() -> None:
    out, _, metrics = attacked(
        "defense=[secure_aggregation]", "fl_setting.clients=6", "fl_setting.capture.batch_size=4"
    )
    assert isinstance(out.seen, Update)
    assert out.seen.examples == 24
    assert metrics["ssim"] > 0.8  # of 24 images in 256 steps, some share one


def test_precode_does_not_touch_it() -> None:
    *_, metrics = attacked("defense=[precode]", "fl_setting.capture.batch_size=8")
    assert metrics["recovered"] == 1


def test_noise_drowns_in_a_large_gradient() -> None:
    given = ("defense=[noisy_gradients]", "defense.noisy_gradients.sigma=0.01", "fl_setting.capture.batch_size=4")
    loud, quiet = (attacked(*given, f"attack.gain={gain}")[2]["ssim"] for gain in (1e6, 1))
    assert loud > 0.9
    assert quiet < loud - 0.2


def test_images_of_one_brightness_share_a_step_and_are_mixed() -> None:
    """Their mean, weighted by their errors, is all that the step holds; the other slot is the mean of own images."""
    out, guess, _ = attacked("fl_setting.capture.batch_size=2", "fl_setting.victims=1", "model.width=1")
    assert isinstance(out.truth, Images)
    blank = out.known.domain.inputs(out.known.prior.mean())
    assert guess.images.shape == (1, 2, 1, 8, 8)
    torch.testing.assert_close(guess.images[0, 1], blank)
    assert not guess.diverged.any()


def test_an_update_that_is_no_number_counts_as_diverged() -> None:
    out, *_ = attacked("fl_setting.capture.batch_size=2")
    assert isinstance(out.seen, Update)
    delta = {name: d.clone() for name, d in out.seen.delta.items()}
    delta["output.weight"][1, 0, 0] = torch.nan
    guess = Imprint(gain=1e6)(replace(out.seen, delta=delta), out.known, {}, Bench(), Rng(0))
    assert guess.diverged.tolist() == [False, True, False]
    assert guess.images.isfinite().all()


def test_planting_knows_the_model_the_data_at_large_and_own_images_alone() -> None:
    met: list[frozenset[str]] = []

    class Spy(Imprint):
        def plant(self, weights, known, rng):  # type: ignore[no-untyped-def]
            met.append(known.granted())
            return super().plant(weights, known, rng)

    with searching(None):
        spec = build(compose([*SMALL, "fl_setting.labels_known=true"]))
    object.__setattr__(spec, "attack", Spy(gain=1.0))
    rng = Rng(0)
    data = spec.dataset.load(rng.child("dataset"))
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, Bench())
    before = {name: w.clone() for name, w in system.snapshots[0].items()}
    assert spec.view is not None
    exposure_for(spec, spec.view, system, data, prior_of(spec, data, rng), spec.defense, rng)
    assert met == [frozenset({"model", "domain", "prior"})]
    for name, weight in system.snapshots[0].items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10)],
        [nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 10)],
        [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10)],
        [nn.Flatten(), nn.Linear(64, 10)],
    ],
    ids=["convolution", "sigmoid", "dropout", "no second layer"],
)
def test_networks_that_it_cannot_shape_are_refused(layers: list[nn.Module]) -> None:
    model = nn.Sequential(OrderedDict((str(n), layer) for n, layer in enumerate(layers)))
    reason = Imprint(gain=1.0).fits(model, DOMAIN, None)
    assert reason is not None
    assert "take model=smlp" in reason


def test_a_frozen_first_layer_is_not_sent() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    model[1].weight.requires_grad_(False)
    assert "the update has no 1.weight" in str(Imprint(gain=1.0).fits(model, DOMAIN, None))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fl_setting.position=client",), "works from position server"),
        (("fl_setting=captured", f"fl_setting.path={of_a_tiny_lenet()}"), "chooses the weights that victims are sent"),
    ],
)
def test_where_no_weights_can_be_chosen_it_is_refused(
    privsweep: Callable[..., int], capsys: pytest.CaptureFixture[str], given: tuple[str, ...], said: str
) -> None:
    assert privsweep("attack=imprint", *FITTING["imprint"], *given) == 2
    assert said in capsys.readouterr().err


def test_the_record_says_that_the_server_is_malicious(privsweep: Callable[..., int], tmp_path: Path) -> None:
    assert privsweep("attack=imprint", "fl_setting.rounds=1", "dataset.train_size=100", "model.width=64") == 0
    [path] = tmp_path.glob("outputs/runs/*/record.json")
    record = json.loads(path.read_text())
    assert record["threat_model"]["security"] == "malicious"


def test_what_an_attack_plants_must_be_like_what_it_was_given() -> None:
    class Shrunk(Imprint):
        def plant(self, weights, known, rng):  # type: ignore[no-untyped-def]
            weights["fc1.weight"].zero_()
            return {name: w for name, w in weights.items() if name != "fc1.bias"}

    with searching(None):
        spec = build(compose([*SMALL]))
    object.__setattr__(spec, "attack", Shrunk(gain=1.0))
    rng = Rng(0)
    data = spec.dataset.load(rng.child("dataset"))
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, Bench())
    with pytest.raises(ValueError, match=r"attack=imprint: plant returned no fc1\.bias"):
        planted(spec, system, data, prior_of(spec, data, rng), spec.defense, rng)
    assert system.snapshots[0]["fc1.weight"].any()


def _thresholds(own: torch.Tensor) -> torch.Tensor:
    """As planted in 1,024 units, for own images of one pixel, uint8."""
    net = nn.Sequential(nn.Linear(1, 1024), nn.ReLU(), nn.Linear(1024, 2))
    prior = ImageSet(own.view(-1, 1, 1, 1), torch.zeros(len(own), dtype=torch.int64))
    known = Knowledge(model=net, domain=Domain(shape=(1, 1, 1), classes=2, mean=(0.0,), std=(1.0,)), prior=prior)
    return -Imprint(gain=1.0).plant({name: p.detach() for name, p in net.named_parameters()}, known, Rng(0))["0.bias"]


def test_few_own_images_spread_others_evenly_over_the_steps() -> None:
    """By fifty images' own quantiles an eighth of 64 others share a step; by even steps 6% would."""
    own, others = (torch.randn(n, generator=Rng(seed).generator()) / 8 + 0.5 for seed, n in enumerate((50, 6400)))
    steps = torch.searchsorted(_thresholds((255 * own).byte()), others).view(100, 64)
    alone = (steps[:, :, None] == steps[:, None]).sum(2) == 1
    assert alone.double().mean() > 0.9


def test_own_images_of_one_brightness_leave_one_threshold() -> None:
    assert _thresholds(torch.tensor([255]).byte()).unique().tolist() == [0, 1]
