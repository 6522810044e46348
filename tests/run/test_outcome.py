import re
from pathlib import Path

import numpy as np
import pytest
from opacus.accountants import RDPAccountant
from tiny import TINY

from privsweep.cli.terminal import finish
from privsweep.interface.errors import UserError
from privsweep.report.in_words import in_words
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.header import title_of
from privsweep.run.run import run


def test_a_title_names_the_network_behind_a_choice_that_stands_for_many() -> None:
    with searching(None):
        spec = build(
            compose(["model=torchvision", "model.name=resnet50", "attack=iga", "fl_setting.labels_known=true"])
        )
    assert title_of(spec.choices, spec.config) == "iga on digits, resnet50, fedavg, no defence"


ALL, MODEL = "what the adversary sees", "released model"


@pytest.mark.parametrize(
    ("overrides", "covered"),
    [
        ("defense=[dp_sgd] attack=dlg", MODEL),
        ("defense=[dp_sgd] attack=loss_threshold", ALL),
        ("defense=[dp_sgd] attack=none", ALL),
        ("defense=[dp_sgd] attack=informed_reconstruction fl_setting=release defense.dp_sgd.poisson=false", ALL),
        ("defense=[dp_sgd] attack=likelihood_inversion fl_setting=split model=lenet fl_setting.cut=pool1", MODEL),
        ("defense=[dp_sgd] attack=none fl_setting=split model=lenet", MODEL),
        ("defense=[dp_sgd] attack=loss_threshold fl_setting=split model=lenet", ALL),
        ("defense=[central_dp] attack=dlg", MODEL),
        ("defense=[central_dp] attack=dlg fl_setting.position=client", MODEL),
        ("defense=[central_dp] attack=loss_threshold", ALL),
        ("defense=[central_dp,dp_sgd] attack=dlg", f"{MODEL}, {MODEL}"),
        ("defense=[central_dp,dp_sgd] attack=none", f"{MODEL}, {ALL}"),
    ],
)
def test_a_budget_says_whether_it_covers_what_the_adversary_sees(overrides: str, covered: str) -> None:
    with searching(None):
        spec = build(compose(overrides.split()))
    assert ", ".join(spec.covers(name) for name in spec.defense.defenses) == covered


def alone(noise: float, uses: int) -> float:
    """The epsilon of so many noisy sums, an example being in all of them."""
    direct = RDPAccountant()
    direct.history = [(noise, 1.0, uses)]
    return direct.get_epsilon(0.01)


@pytest.mark.parametrize(
    ("overrides", "uses"),
    [
        ("defense=[dp_sgd]", 1),
        ("defense=[dp_sgd] defense.dp_sgd.poisson=false", 1),
        ("defense=[dp_sgd] fl_setting.capture.what=difference fl_setting.local_steps=7", 7),
        ("defense=[dp_sgd] fl_setting.rounds=0 defense.dp_sgd.epsilon=null defense.dp_sgd.noise_multiplier=0.9", 1),
        ("defense=[central_dp] fl_setting.position=client fl_setting.clients=5 fl_setting.participation=0.4", 1),
        ("defense=[central_dp]", None),
    ],
)
def test_a_captured_update_tells_what_it_costs_by_itself(overrides: str, uses: int | None, tmp_path: Path) -> None:
    """Whose images are behind it is known: no sampling hides them, and the server sees updates before central noise."""
    name = "dp_sgd" if "dp_sgd" in overrides else "central_dp"
    given = [
        *overrides.split(), *TINY, "attack=dlg", "fl_setting.optimizer=sgd", "dataset.train_size=200",
        f"defense.{name}.delta=0.01", f"output_dir={tmp_path}",
    ]  # fmt: skip
    with searching(None):
        spec = build(compose(given))
    budget = run(spec)["privacy"][name]
    if uses is None:
        assert "captured_epsilon" not in budget
        return
    noise = budget.get("noise_multiplier", 0.9)
    assert budget["captured_epsilon"] == pytest.approx(alone(noise, uses), rel=0.05)  # orders above Opacus' own


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("defense=[dp_sgd] defense.dp_sgd.delta=0.9", "defense.dp_sgd.delta=0.9: .* take 0.05 or less"),
        ("defense=[dp_sgd] defense.dp_sgd.delta=0.05", None),
        ("defense=[dp_sgd]", None),
        (
            "defense=[dp_sgd] defense.dp_sgd.accountant=gdp fl_setting.batch_size=4",
            "accountant=gdp: .* take rdp or prv",
        ),
        ("defense=[dp_sgd] defense.dp_sgd.accountant=gdp", None),
        ("defense=[central_dp] fl_setting.participation=0.7", None),
        (
            "defense=[central_dp] fl_setting.participation=0.7 defense.central_dp.amplification=true",
            "defense.central_dp.amplification=true: .* take false for a bound",
        ),
        ("defense=[central_dp] defense.central_dp.accountant=gdp", None),
        ("defense=[central_dp] defense.central_dp.delta=0.9", "defense.central_dp.delta=0.9: .* take 0.333 or less"),
    ],
)
def test_a_budget_that_promises_little_or_is_no_bound_is_warned_of(
    overrides: str, line: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 60 images each of three clients has 20."""
    given = [*overrides.split(), *TINY, "attack=none", "fl_setting.local_epochs=1", f"output_dir={tmp_path}"]
    with searching(None):
        spec = build(compose(given))
    run(spec)
    told = capsys.readouterr().err
    assert (re.search(line, told) is not None) if line else "defense" not in told


@pytest.mark.parametrize("delta", ["0", "1", "-0.1"])
def test_a_delta_that_is_no_probability_below_one_is_refused(delta: str) -> None:
    with searching(None), pytest.raises(UserError, match=f"defense.dp_sgd.delta={delta}: input should be"):
        build(compose(["defense=[dp_sgd]", f"defense.dp_sgd.delta={delta}"]))


def test_record_and_terminal_say_what_a_budget_covers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images are read off the activations of split learning, whatever noise is on the gradients."""
    overrides = [
        "model=lenet", "fl_setting=split", "fl_setting.cut=pool1", "attack=likelihood_inversion", "defense=[dp_sgd]",
        "defense.dp_sgd.epsilon=0.5", "scale=smoke", f"output_dir={tmp_path}",
    ]  # fmt: skip
    with searching(None):
        spec = build(compose(overrides))
    record = run(spec)
    budget = record["privacy"]["dp_sgd"]
    assert budget["epsilon"] <= 0.5
    assert budget["covers"] == MODEL
    finish(spec, record)
    assert "; covers released model" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_names_the_largest_class_alone_is_told_from_one_that_has_learnt(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    labels = np.arange(50)[:, None] % 5 // 4  # four of five are of class 0
    np.savez(tmp_path / "uneven.npz", train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    given = f"dataset=npz dataset.path={tmp_path}/uneven.npz model=smlp attack=none fl_setting.rounds=0"
    with searching(None):
        record = run(build(compose([*given.split(), f"output_dir={tmp_path}"])))
    assert record["sizes"]["test"] == 50
    assert record["sizes"]["classes"] == 2
    assert record["sizes"]["largest_class"] == 40
    record["utility"]["test_accuracy"] = 0.8
    assert in_words(record).endswith("test accuracy 80.0%, where naming the largest class alone has 80.0%")


def test_canaries_that_scores_tell_and_the_attacks_threshold_does_not_are_no_defence(tmp_path: Path) -> None:
    """It is the threshold of public records, whose labels are right: by accuracy nothing would leak."""
    given = (
        "dataset=digits dataset.train_size=400 dataset.canaries=200 dataset.prior_size=200 model=smlp model.width=64 "
        f"fl_setting=central fl_setting.epochs=150 attack=loss_threshold output_dir={tmp_path}"
    )
    with searching(None):
        record = run(build(compose(given.split())))
    assert record["metrics"]["auc"] > 0.9
    assert record["metrics"]["attack_accuracy"] < 0.6
    assert "but not by the attack's own threshold, whose accuracy is 5" in in_words(record)


def test_an_update_that_is_zero_is_not_praised_as_one_that_was_defended(tmp_path: Path) -> None:
    """Pruned are all entries here; a trained network that is sure of an image sends as little."""
    given = (
        "dataset.train_size=60 dataset.test_size=20 scale=smoke attack=iga fl_setting.victims=2 "
        f"defense=[gradient_pruning] defense.gradient_pruning.fraction=1.0 output_dir={tmp_path}"
    )
    with searching(None):
        record = run(build(compose(given.split())))
    assert record["metrics"]["update_norm"] == 0
    assert "; all that was sent is exactly zero, which tells nothing; test accuracy" in in_words(record)
