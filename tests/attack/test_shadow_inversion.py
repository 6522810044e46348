"""Shadow inversion: undefended features give images away; several server networks, several answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, Bench, digits_of

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Answers, Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.truth import Images
from privsweep.metric.score import score
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import exposure_for
from privsweep.run.run_spec import RunSpec, versions
from privsweep.run.with_data import check_with_data

GIVEN = [
    "fl_setting=collaborative_inference", "attack=shadow_inversion", "model=lenet", "fl_setting.victims=4",
    "fl_setting.augment=none", "attack.width=4", "attack.blocks=1",
]  # fmt: skip
THREE = ["defense=[ensembler]", "defense.ensembler.networks=3", "defense.ensembler.selected=2"]


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


def made(*overrides: str) -> RunSpec:
    swept = {o.partition("=")[0] for o in overrides}
    return build(compose([*(o for o in (*TINY, *GIVEN) if o.partition("=")[0] not in swept), *overrides]))


def attacked(spec: RunSpec, data: Data) -> tuple[Reconstruction | Answers, Images]:
    check_with_data(spec, data, None, Rng(0))
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    system = spec.training_setting().train(data, spec.model, defense, Rng(0), Bench())
    assert spec.view is not None
    out = exposure_for(spec, spec.view, system, data, None, defense, Rng(0))
    absent = set() if spec.defense.acts_at() else {"defense"}
    assert out.known.granted() == spec.attack.needs - absent
    prepared = spec.attack.prepare(out.known.only(spec.attack.prepares_from), Bench(), Rng(0))
    guess = spec.attack(out.seen, out.known, prepared, Bench(), Rng(0))
    assert isinstance(out.truth, Images)
    assert isinstance(guess, Reconstruction | Answers)
    return guess, out.truth


def test_undefended_features_give_images_away() -> None:
    """From the server's own networks alone, on images that nobody has trained on."""
    digits = digits_of(train_size=1000, test_size=40)
    data = digits.load(Rng(0))
    deeper = ["model.norm=batch", "model.depth=4", "model.layers=[1,1,2,2]", "model.pool_after=[2,4]"]
    learns = ["fl_setting.epochs=12", "fl_setting.batch_size=32", "fl_setting.optimizer=adam", "fl_setting.lr=0.01"]
    attack = ["attack.shadow_epochs=12", "attack.epochs=6", "attack.batch_size=16", "attack.width=8"]
    rates = ["attack.lr=3e-3", "attack.shadow_lr=3e-3", "attack.restarts=3"]
    spec = made("model.width=8", "model.kernel=3", *deeper, *learns, *attack, *rates)
    guess, truth = attacked(spec, data)
    similarity = score(guess, truth, data.domain, None, 0.6).metrics["ssim"]
    assert similarity is not None
    assert similarity > 0.6


@pytest.mark.parametrize(
    ("strategy", "answers"),
    [
        ("each", ["net_0", "net_1", "net_2"]),
        ("subsets", ["net_0", "net_1", "net_2", "net_0_1", "net_0_2", "net_1_2", "net_0_1_2"]),
        ("adaptive", None),
        ("selected", None),
        ("exchanged", None),
    ],
)
def test_a_strategy_says_which_networks_shadows_are_built_around(
    strategy: str, answers: list[str] | None, data: Data
) -> None:
    told = "true" if strategy in ("selected", "exchanged") else "false"
    guess, truth = attacked(made(*THREE, f"attack.strategy={strategy}", f"fl_setting.selector_known={told}"), data)
    if answers is None:
        assert isinstance(guess, Reconstruction)
        return
    assert isinstance(guess, Answers)
    assert list(guess.by_name) == answers
    losses = {name: float(r.diagnostics["shadow_loss"][0]) for name, r in guess.by_name.items()}  # type: ignore[union-attr]
    assert guess.chosen == min(losses, key=losses.__getitem__)

    scored = score(guess, truth, data.domain, None, 0.6)
    every = {name: scored.metrics[f"ssim_{name}"] for name in answers}
    assert scored.metrics["ssim"] == every[guess.chosen]
    assert scored.metrics["ssim_oracle_ssim"] == max(v for v in every.values() if v is not None)
    assert scored.metrics["psnr_oracle_psnr"] == max(float(scored.metrics[f"psnr_{n}"] or 0) for n in answers)
    assert list(scored.answers) == ["oracle_ssim", "oracle_psnr"]
    assert "ssim_oracle_ssim" in scored.rows


def test_one_network_has_one_answer_whatever_the_strategy(data: Data) -> None:
    images = []
    for strategy in ("each", "adaptive", "subsets"):
        guess, _ = attacked(made(f"attack.strategy={strategy}"), data)
        assert isinstance(guess, Reconstruction)
        images.append(guess.images)
    assert all(torch.equal(i, images[0]) for i in images)


def test_of_several_shadows_the_one_that_judges_best_is_kept(data: Data) -> None:
    losses = []
    for restarts in (2, 3, 4):
        guess, _ = attacked(made(f"attack.restarts={restarts}"), data)
        assert isinstance(guess, Reconstruction)
        losses.append(float(guess.diagnostics["shadow_loss"][0]))
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("defense", "anew"),
    [
        ("", False),
        ("single_noise", False),  # drawn once: a constant, for the shadow's convolutions to stand for
        ("ensembler", False),
        ("single_noise defense.single_noise.draw=fresh", True),
        ("dropout_single", True),
        ("shredder", True),
    ],
)
def test_a_shadow_is_perturbed_as_the_client_by_what_is_drawn_for_every_query(
    defense: str, anew: bool, data: Data
) -> None:
    name, *more = defense.split(" ")
    images = []
    for told in ("true", "false"):
        spec = made(f"defense=[{name}]", *more, f"attack.shadows_defended={told}", "attack.strategy=adaptive")
        assert spec.attack.threat.adaptive is (told == "true")
        guess, _ = attacked(spec, data)
        assert isinstance(guess, Reconstruction)
        images.append(guess.images)
    assert torch.equal(*images) is not anew


def test_a_decoder_that_has_seen_dropout_reads_more_of_what_has_been_dropped() -> None:
    digits = digits_of(train_size=600, test_size=60)
    data, defense = digits.load(Rng(0)), ["defense=[dropout_single]", "defense.dropout_single.p=0.7"]
    learns = ["fl_setting.epochs=8", "fl_setting.batch_size=32", "fl_setting.optimizer=adam", "fl_setting.lr=0.01"]
    attack = ["attack.shadow_epochs=8", "attack.epochs=6", "attack.batch_size=16", "attack.width=8", "attack.lr=3e-3"]
    network = ["model.width=8", "model.kernel=3", "model.norm=batch", "fl_setting.victims=32"]
    similarity = []
    for told in ("true", "false"):
        guess, truth = attacked(made(*network, *defense, *learns, *attack, f"attack.shadows_defended={told}"), data)
        similarity.append(score(guess, truth, data.domain, None, 0.6).metrics["ssim"])
    knowing, unknowing = similarity
    assert knowing is not None
    assert unknowing is not None
    assert knowing > unknowing + 0.1


def test_the_servers_networks_stay_as_they_are_and_statistics_change_the_shadow(data: Data) -> None:
    plain, _ = attacked(made("model=resnet18", "model.width=4", "attack.statistics=0.0"), data)
    fitted, _ = attacked(made("model=resnet18", "model.width=4"), data)
    assert isinstance(plain, Reconstruction)
    assert isinstance(fitted, Reconstruction)
    assert not torch.allclose(plain.images, fitted.images)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["defense=[ensembler]", "defense.ensembler.networks=8", "attack.strategy=subsets"], "255 subsets"),
        (["fl_setting.training_data_known=false"], "dataset@prior=<dataset>"),
        ([*THREE, "attack.strategy=selected"], "needs selector"),
        (["model=smlp"], "attack.convolutions=2: stand for noise on feature maps"),
        (
            ["model=smlp", "fl_setting.first_split=flatten", "attack.convolutions=0", "attack.decoder=mirror"],
            "to mirror",
        ),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], message: str, data: Data) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_with_data(made(*overrides), data, None, Rng(0))
    assert len(str(error.value).splitlines()) == 1


def test_own_images_of_classes_that_the_target_lacks_are_refused(data: Data) -> None:
    """A shadow learns to classify them as the server's networks do."""
    prior = replace(data.train, labels=data.train.labels + 1)
    with pytest.raises(UserError, match=r"labels go up to 10, the target has 10 classes; .*dataset\.prior_size"):
        check_with_data(made("dataset.prior_size=100"), data, prior, Rng(0))


def test_a_server_is_not_told_the_weights_that_a_client_begins_with(tmp_path: Path, data: Data) -> None:
    """Of a network that is brought in finished, they are the head that the attack is to find out."""
    plain = made("defense=[single_noise]", "fl_setting.epochs=0")
    begins = plain.model.build(data.domain, Rng(7)).state_dict()
    save_file(begins, tmp_path / "mine.safetensors")
    spec = made("defense=[single_noise]", "fl_setting.epochs=0", f"model.weights={tmp_path}/mine.safetensors")
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    system = spec.training_setting().train(data, spec.model, defense, Rng(0), Bench())
    assert torch.equal(system.snapshots[0]["head.conv1.weight"], begins["conv1.weight"])
    assert spec.view is not None
    known = exposure_for(spec, spec.view, system, data, None, defense, Rng(0)).known
    for told in (known.architecture, known.defense.architecture):
        assert not torch.equal(told.build(data.domain, Rng(0)).head.conv1.weight, begins["conv1.weight"])
    assert versions(spec.parts) == versions({**spec.parts, "model": plain.model})
    assert "view" in versions({**spec.parts, "view": spec.view})["versions"]
