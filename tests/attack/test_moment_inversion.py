"""Moment inversion: what has been received for other queries tells of the client's head, whatever the server's part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tiny import TINY, Bench, digits_of

from privsweep.activation_inversion.moments import Moments
from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Exposure
from privsweep.interface.truth import Images
from privsweep.metric.score import score
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import check_with_data, exposure_for
from privsweep.run.run_spec import RunSpec

GIVEN = [
    "fl_setting=collaborative_inference", "attack=moment_inversion", "model=lenet", "fl_setting.victims=4",
    "fl_setting.augment=none", "attack.width=4", "attack.blocks=1", "fl_setting.queries_kept=15",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


def made(*overrides: str) -> RunSpec:
    swept = {o.partition("=")[0] for o in overrides}
    return build(compose([*(o for o in (*TINY, *GIVEN) if o.partition("=")[0] not in swept), *overrides]))


def exposed(spec: RunSpec, data: Data) -> Exposure:
    check_with_data(spec, data, None, Rng(0))
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    system = spec.training_setting().train(data, spec.model, defense, Rng(0), Bench())
    assert spec.view is not None
    return exposure_for(spec, spec.view, system, data, None, defense, Rng(0))


def attacked(spec: RunSpec, data: Data) -> tuple[Reconstruction, Images]:
    out = exposed(spec, data)
    prepared = spec.attack.prepare(out.known.only(spec.attack.prepares_from), Bench(), Rng(0))
    guess = spec.attack(out.seen, out.known, prepared, Bench(), Rng(0))
    assert isinstance(out.truth, Images)
    assert isinstance(guess, Reconstruction)
    return guess, out.truth


def test_a_head_that_was_trained_anew_for_secret_networks_gives_images_away_to_one_who_keeps_queries() -> None:
    """Ensembler, whose server networks the attack does not even look at."""
    digits = digits_of(train_size=600, test_size=200)
    data = digits.load(Rng(0))
    network = ["model.norm=batch", "model.width=6", "model.kernel=3", "fl_setting.victims=32"]
    defense = ["defense=[ensembler]", "defense.ensembler.networks=2", "defense.ensembler.selected=1"]
    learns = ["fl_setting.epochs=6", "fl_setting.batch_size=32", "fl_setting.optimizer=adam", "fl_setting.lr=0.01"]
    attack = [
        "attack.shadow_epochs=32",
        "attack.restarts=2",
        "attack.epochs=6",
        "attack.batch_size=32",
        "attack.lr=3e-3",
    ]
    spec = made(*network, *defense, *learns, *attack, "attack.width=8", "fl_setting.queries_kept=100")
    guess, truth = attacked(spec, data)
    assert "server_part" not in spec.attack.needs
    similarity = score(guess, truth, data.domain, None, 0.6).metrics["ssim"]
    assert similarity is not None
    assert similarity > 0.5


def test_moments_know_a_filter_from_its_negative_and_its_mirror_image_and_no_constant_from_another() -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 1, 8, 8) + torch.linspace(0, 2, 8)[:, None]  # brighter below
    filters = torch.randn(5, 1, 3, 3)

    def features(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(images, by, padding=1).relu()

    constant = torch.randn(5, 8, 8)
    received = Moments.of(features(x[:200], filters))
    mine = received.distance(features(x[200:], filters))
    for other in (-filters, filters.flip(-1), filters.flip(-2), filters.flip(0)):
        assert received.distance(features(x[200:], other)) > 10 * mine
    shifted = Moments.of(features(x[:200], filters) + constant)
    assert torch.allclose(shifted.products, received.products, atol=1e-4)
    assert torch.allclose(shifted.deviation, received.deviation, atol=1e-4)


def test_features_that_are_no_maps_have_moments_too() -> None:
    z = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert float(Moments.of(z).distance(z)) == pytest.approx(0, abs=1e-6)
    assert float(Moments.of(z).distance(2 * z)) > 0.1


def test_a_channel_that_was_never_active_does_not_outweigh_all_others() -> None:
    torch.manual_seed(0)
    z = torch.rand(100, 4, 8, 8)
    received, other = z.clone(), torch.rand(100, 4, 8, 8)
    received[:, 2] = 0.3
    assert float(Moments.of(received).distance(other)) < 1e4
    assert float(Moments.of(received).distance(received)) == pytest.approx(0, abs=1e-6)
    other[:, 2] = 0.3
    assert float(Moments.of(received).distance(other)) < 0.1


def test_what_was_received_does_not_depend_on_the_victims_nor_they_on_each_other(data: Data) -> None:
    few, more = (exposed(made(f"fl_setting.victims={n}"), data) for n in (2, 6))
    assert few.known.received.shape[0] == 15
    assert torch.equal(few.known.received, more.known.received)

    spec = made("fl_setting.victims=6")
    prepared = spec.attack.prepare(more.known.only(spec.attack.prepares_from), Bench(), Rng(0))
    assert isinstance(more.seen, Activations)
    alone = spec.attack(replace(more.seen, z=more.seen.z[2:3]), more.known, prepared, Bench(), Rng(0))
    together = spec.attack(more.seen, more.known, prepared, Bench(), Rng(0))
    assert isinstance(alone, Reconstruction)
    assert isinstance(together, Reconstruction)
    assert torch.allclose(alone.images[0], together.images[2], atol=1e-5)


def test_of_several_heads_the_nearest_is_kept(data: Data) -> None:
    distances = []
    for restarts in (1, 2, 4):
        guess, _ = attacked(made(f"attack.restarts={restarts}"), data)
        distances.append(float(guess.diagnostics["moment_distance"][0]))
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize(("defense", "anew"), [("ensembler", False), ("dropout_single", True), ("shredder", True)])
def test_the_fitted_head_is_perturbed_as_the_client_by_what_is_drawn_for_every_query(
    defense: str, anew: bool, data: Data
) -> None:
    images = []
    for told in ("true", "false"):
        spec = made(f"defense=[{defense}]", f"attack.shadows_defended={told}")
        assert spec.attack.threat.adaptive is (told == "true")
        images.append(attacked(spec, data)[0].images)
    assert torch.equal(*images) is not anew


def test_a_server_that_keeps_nothing_has_the_stored_results_of_before_the_choice() -> None:
    """And one that keeps queries shares the trained system."""
    asked = ("attack=shadow_inversion", "fl_setting.queries_kept=0")
    plain, keeping = made(*asked), made(*asked[:1])
    device = torch.device("cpu")
    assert "queries_kept" not in str(plain.training_key(device))
    assert plain.training_key(device) == keeping.training_key(device)
    assert plain.signature != keeping.signature
    config = {
        **plain.config,
        "fl_setting": {k: v for k, v in plain.config["fl_setting"].items() if k != "queries_kept"},
    }
    assert replace(plain, config=config).signature == plain.signature


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fl_setting.queries_kept=0"], "needs received.*set fl_setting.queries_kept=256"),
        (["fl_setting.queries_kept=21"], "fl_setting.queries_kept=21: there are 20 test examples; take fewer"),
        (["fl_setting.queries_kept=1"], "fl_setting.queries_kept=1: one query has no moments; take two or more"),
        (["fl_setting.training_data_known=false"], "dataset@prior=<dataset>"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], message: str, data: Data) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_with_data(made(*overrides), data, None, Rng(0))
    assert len(str(error.value).splitlines()) == 1
