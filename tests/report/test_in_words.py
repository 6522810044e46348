"""What came out, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from privsweep.report.in_words import headlines, in_words, sweep_in_words, threat_in_words

IMAGES = {"recovered": 0.75, "ssim": 0.734, "mse": 0.1, "diverged": 0.0, "mse_median": 0.1, "gradient_mse": 1e-9}
MEMBERS = {"auc": 0.731, "auc_low": 0.66, "auc_high": 0.801, "tpr_at_1_fpr": 0.05, "attack_accuracy": 0.6}
ACCURATE = {"test_accuracy": 0.942}


def record(metrics: dict[str, Any], utility: dict[str, float] = ACCURATE, batch: int = 1) -> dict[str, Any]:
    setting = {"victims": 8, "capture": {"batch_size": batch}}
    return {"metrics": metrics, "utility": utility, "config": {"fl_setting": setting}}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (record(IMAGES), "6 of 8 images recovered (SSIM above 0.9), mean SSIM 0.73; test accuracy 94.2%"),
        (
            record({**IMAGES, "recovered": 1.0}, {"test_accuracy": 0.1, "final_test_accuracy": 0.942}),
            "8 of 8 images recovered (SSIM above 0.9); test accuracy 10.0% when attacked, 94.2% at the end of training",
        ),
        (record({**IMAGES, "recovered": 1.0}), "8 of 8 images recovered (SSIM above 0.9); test accuracy 94.2%"),
        (
            record({**IMAGES, "diverged": 0.25}, {}, batch=4),
            "6 of 8 updates recovered (mean SSIM of their images above 0.9), mean SSIM 0.73, 2 of 8 updates diverged",
        ),
        (
            record({**IMAGES, "stopped_early": 0.5}),
            "6 of 8 images recovered (SSIM above 0.9), mean SSIM 0.73, 4 of 8 stopped early (attack.patience=0 lets "
            "them go on); test accuracy 94.2%",
        ),
        (record({**IMAGES, "recovered": 1.0, "stopped_early": 0.5}, {}), "8 of 8 images recovered (SSIM above 0.9)"),
        (
            record({**IMAGES, "recovered": 0.0, "diverged": 1.0, "ssim": None}),
            "every attack diverged (8 of 8 images): nothing was recovered; test accuracy 94.2%",
        ),
        (
            record({**IMAGES, "recovered": 0.0, "ssim": None, "update_norm": None}, {}),
            "0 of 8 images recovered (SSIM above 0.9); not all that was sent is finite, and what is not tells nothing",
        ),
        (
            record({**IMAGES, "recovered": 0.0, "ssim": None, "update_norm": 0.0}, {}),
            "0 of 8 images recovered (SSIM above 0.9); all that was sent is exactly zero, which tells nothing",
        ),
        (record({**IMAGES, "recovered": 1.0, "update_norm": 1e-9}, {}), "8 of 8 images recovered (SSIM above 0.9)"),
        (
            record({**IMAGES, "below_oracle": 0.5}),
            "6 of 8 images recovered (SSIM above 0.9), mean SSIM 0.73, 4 of 8 images nearer than any that was "
            "known before; test accuracy 94.2%",
        ),
        (
            record(MEMBERS),
            "members told from others: AUC 0.73 [0.66, 0.80]; 5.0% caught at 1% false alarms; test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "auc": 0.5, "auc_low": 0.45, "tpr_at_1_fpr": 0.0}),
            "members not told from others: AUC 0.50 [0.45, 0.80], where 0.50 is chance; 0% caught at 1% false alarms; "
            "test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "balanced_accuracy": 0.5, "balanced_accuracy_low": 0.45}),
            "members told from others: AUC 0.73 [0.66, 0.80]; 5.0% caught at 1% false alarms, but not by the attack's "
            "own threshold, whose accuracy is 50.0%; test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "balanced_accuracy": 0.6, "balanced_accuracy_low": 0.55}),
            "members told from others: AUC 0.73 [0.66, 0.80]; 5.0% caught at 1% false alarms; test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "auc_low": 0.45, "balanced_accuracy": 0.5, "balanced_accuracy_low": 0.45}),
            "members not told from others: AUC 0.73 [0.45, 0.80], where 0.50 is chance; 5.0% caught at 1% false "
            "alarms; test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "held_out_auc": 0.7, "held_out_auc_low": 0.6}),
            "members told from others: AUC 0.73 [0.66, 0.80]; 5.0% caught at 1% false alarms; but so are training "
            "images that it never saw: AUC 0.70; test accuracy 94.2%",
        ),
        (
            record({**MEMBERS, "held_out_auc": 0.52, "held_out_auc_low": 0.45}),
            "members told from others: AUC 0.73 [0.66, 0.80]; 5.0% caught at 1% false alarms; test accuracy 94.2%",
        ),
        (
            record({"overlap": 0.41, "overlap_chance": 0.125, "exact": 0.03}),
            "41.0% of the words read (12.5% of another sentence's: chance), 3.0% of the sentences in full; test "
            "accuracy 94.2%",
        ),
        (
            record({"overlap": 0.9, "exact": 0.25, "exact_source": 0.25, "exact_target": 1.0}),
            "90.0% of the words read, 25.0% of the pairs in full (25.0% of the sources, 100% of the targets); test "
            "accuracy 94.2%",
        ),
        (record({"depth": 2.0, "depth_median": 1.0}), "depth 2; test accuracy 94.2%"),
        (record({"diverged": 0.5, "depth": 2.0}, {}), "no original to compare with; diverged 0.5, depth 2"),
        (record({}), "nothing was attacked; test accuracy 94.2%"),
        (
            {"metrics": {"recovered": None}, "utility": {}, "config": {}},
            "0% of the images recovered (SSIM above 0.9)",
        ),
        (
            {
                "metrics": {"gradient_distance": 1e-9},
                "utility": {},
                "config": {},
                "choices": {"fl_setting": "captured"},
            },
            "no original to compare with; gradient distance at the end 1e-09 (mean)",
        ),
    ],
)
def test_a_run(of: dict[str, Any], words: str) -> None:
    assert in_words(of) == words


@pytest.mark.parametrize(
    ("utility", "largest", "words"),
    [
        ({"test_accuracy": 0.74}, 74, "test accuracy 74.0%, where naming the largest class alone has 74.0%"),
        ({"test_accuracy": 0.25}, 74, "test accuracy 25.0%"),
        ({"test_accuracy": 0.5}, 74, "test accuracy 50.0%, where naming the largest class alone has 74.0%"),
        (
            {"test_accuracy": 0.9, "final_test_accuracy": 0.745},
            74,
            "test accuracy 90.0% when attacked, 74.5% at the end of training, where naming the largest class alone has "
            "74.0%",
        ),
        ({"test_accuracy": 0.8}, 74, "test accuracy 80.0%"),
        ({"test_accuracy": 0.26}, 26, "test accuracy 26.0%"),
    ],
)
def test_of_uneven_classes_an_accuracy_that_need_not_have_been_learnt(
    utility: dict[str, float], largest: int, words: str
) -> None:
    of = {"metrics": {}, "utility": utility, "sizes": {"test": 100, "classes": 4, "largest_class": largest}}
    assert in_words(of) == f"nothing was attacked; {words}"


def test_behind_a_captured_update_there_may_be_several_images() -> None:
    captured = {"metrics": {"recovered": 1.0}, "utility": {}, "config": {}, "choices": {"fl_setting": "captured"}}
    assert in_words(captured) == "100% of the updates recovered (mean SSIM of their images above 0.9)"


def test_a_threat_model() -> None:
    threat = {"time": "test", "position": "server", "access": "white-box", "security": "honest-but-curious"}
    assert threat_in_words(threat) == "honest-but-curious server, test time, white-box"
    assert threat_in_words({**threat, "adaptive": True}).endswith("white-box, knows of the defence")


def test_what_was_not_scored_is_not_told_by_a_count_of_none() -> None:
    assert in_words(record({"diverged": 0.0}, {})) == "no original to compare with"


def test_few_metrics_stand_for_all() -> None:
    assert headlines(IMAGES) == ["ssim", "mse", "diverged"]
    assert headlines({"depth": 2.0, "depth_median": 1.0}) == ["depth"]


def test_a_sweep_names_what_stands_out() -> None:
    rows = [
        {"attack": "dlg", "recovered": 0.75, "runs": 3, "complete": 3},
        {"attack": "iga", "recovered": 1.0, "runs": 3, "complete": 2},
        {"attack": "rmia", "recovered": None, "auc": 0.55, "runs": 3, "complete": 3},
    ]
    assert sweep_in_words(rows, ["attack"]) == (
        "8 of 9 runs done; most recovered: attack=iga, 100%, least: attack=dlg, 75.0%; members told best: attack=rmia, "
        "AUC 0.55"
    )
    tied = [{**rows[1], "attack": "cpl"}, *rows[:2], {**rows[0], "attack": "idlg"}]
    assert sweep_in_words(tied, ["attack"]).endswith(
        "most recovered: attack=cpl and 1 more, 100%, least: attack=dlg and 1 more, 75.0%"
    )
    alike = [{"seed": 1, "recovered": 0.5, "runs": 2, "complete": 2}] * 2
    assert sweep_in_words(alike, []) == "4 of 4 runs done; recovered: 50.0%, all alike"
    assert sweep_in_words(alike[:1], []) == "2 of 2 runs done; recovered: 50.0%"
    assert sweep_in_words([{"runs": 1, "complete": 0}], []) == "0 of 1 runs done"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([{"auc": 0.49}, {"auc": 0.40}], "members not told: AUC 0.40 to AUC 0.49, where AUC 0.50 is chance"),
        ([{"auc": 0.49}, {"auc": 0.49}], "members not told: AUC 0.49, where AUC 0.50 is chance"),
        ([{"auc": 0.49}, {"ssim": 0.1}], "members not told: AUC 0.49, where AUC 0.50 is chance"),
        ([{"auc": 0.502}], "members not told: AUC 0.50, where AUC 0.50 is chance"),
        ([{"property_auc": 0.3}], "properties not told: AUC 0.30, where AUC 0.50 is chance"),
        ([{"auc": 0.51}, {"auc": 0.4}], "members told best: attack=0, AUC 0.51, worst: attack=1, AUC 0.40"),
        ([{"overlap": 0.1, "overlap_chance": 0.2}], "words not read: 10.0%, where 20.0% is chance"),
        ([{"overlap": 0.3, "overlap_chance": 0.2}], "words read: 30.0%"),
        ([{"overlap": 0.0, "overlap_chance": None}], "words read: 0%"),
    ],
)
def test_what_is_no_better_than_chance_is_not_told_as_the_best(numbers: list[dict[str, Any]], words: str) -> None:
    rows = [{"attack": str(n), "runs": 1, "complete": 1, **own} for n, own in enumerate(numbers)]
    assert sweep_in_words(rows, ["attack"]) == f"{len(rows)} of {len(rows)} runs done; {words}"


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (0.5, "; an epsilon of 0.5 is shown, of the 3 that central_dp allows; test"),
        (3.25, "; this refutes the epsilon of 3 that central_dp states: 3.25 or more; test"),
        (None, "[0.66, 0.80]; 5.0% caught at 1% false alarms; test"),
    ],
)
def test_what_an_attack_shows_stands_beside_the_least_budget(shown: float | None, words: str) -> None:
    privacy = {"dp_sgd": {"epsilon": 6.0}, "central_dp": {"epsilon": 3.0}, "own": {"delta": 1e-5}}
    assert words in in_words({**record({**MEMBERS, "empirical_epsilon": shown}), "privacy": privacy})
    assert "epsilon" not in in_words(record({**MEMBERS, "empirical_epsilon": shown}))


def test_of_an_update_it_stands_beside_what_the_update_costs_by_itself() -> None:
    budget = {"epsilon": 2.0, "captured_epsilon": 7.0, "covers": "released model"}
    metrics = {**MEMBERS, "empirical_epsilon": 3.0}
    told = in_words({**record(metrics), "privacy": {"dp_sgd": budget}})
    assert "; an epsilon of 3 is shown, of the 7 that dp_sgd allows; test" in told
    del budget["captured_epsilon"]
    assert "epsilon" not in in_words({**record(metrics), "privacy": {"central_dp": budget}})


def test_of_gaussian_noise_more_can_be_shown() -> None:
    metrics = {**MEMBERS, "empirical_epsilon": 0.5, "gaussian_epsilon": 2.0}
    told = in_words({**record(metrics), "privacy": {"dp_sgd": {"epsilon": 6.0}}})
    assert "; an epsilon of 0.5 is shown (2 of Gaussian noise), of the 6 that dp_sgd allows; test" in told
    assert "gaussian_epsilon" in headlines(metrics)
    assert "gaussian_epsilon" not in headlines({**metrics, "gaussian_epsilon": None})
