"""The summary of an ad hoc sweep."""

from __future__ import annotations

from report_world import record, varied

from privsweep.report.summary import summary


def test_a_summary_has_a_line_for_each_combination() -> None:
    wide = {"config": {"model": {"width": 64}}}
    records = [record(0, 0.4), record(1, 0.6), record(0, 0.9, **wide)]
    made = summary(records, varied(records, "model.width", "seed"))
    assert made.head == ["model.width", "mse", "ssim", "test_accuracy", "runs"]
    assert made.rows == [["12", "0.25 ± 0", "0.5 ± 0.141", "0.5 ± 0", "2"], ["64", "0.25", "0.9", "0.5", "1"]]
    assert made.frame["ssim"].tolist() == [0.5, 0.9]
    assert made.markdown().startswith("| model.width |")
    assert made.csv().startswith("model.width,mse,mse_std")


def test_a_summary_averages_no_survivors() -> None:
    failed = record(1, None, status="failed", metrics={}, utility={})
    made = summary([record(0, 0.4), failed, record(2, None)], [{"defense": "[]"}] * 3)
    assert made.rows == [["[]", "", "", "", "2 of 3"]]
    assert summary([record(0, 0.4), record(1, None)], [{}, {}]).rows == [["0.25 ± 0", "N/A", "0.5 ± 0", "2"]]


def test_what_a_record_does_not_tell_is_told_apart_as_it_was_typed() -> None:
    made = summary([record(0, 0.4), record(0, 0.6)], [{"dataset.path": name} for name in ("a.npz", "b.npz")])
    assert made.rows == [["a.npz", "0.25", "0.4", "0.5", "1"], ["b.npz", "0.25", "0.6", "0.5", "1"]]
    one = record(0, 0.4)  # the same run under both
    assert [row[-1] for row in summary([one, one], [{"attack.memory": n} for n in "12"]).rows] == ["1", "1"]


def test_a_summary_shows_what_was_chosen_in_the_order_that_was_typed() -> None:
    both = [record(seed, 0.4, utility={"test_accuracy": 0.5}, seconds={"attack": 2.0}) for seed in (0, 1)]
    chosen = ["seconds.attack", "test_accuracy", "final_test_accuracy", "ssim", "utility.test_accuracy"]
    made = summary(both, varied(both, "attack", "seed"), chosen)
    assert made.head == ["attack", *chosen, "runs"]
    assert made.rows == [["dlg", "2 ± 0", "0.5 ± 0", "0.5 ± 0", "0.4 ± 0", "0.5 ± 0", "2"]]
    assert list(made.frame)[:3] == ["attack", "seconds.attack", "seconds.attack_std"]
    assert not made.problems


def test_a_name_that_no_run_has_is_told_with_what_may_have_been_meant() -> None:
    made = summary([record(0, 0.4)], [{"attack": "dlg"}], ["sssim", "mse", "second.per_victim", "zzz"])
    assert made.head == ["attack", "mse", "runs"]
    assert made.problems == [
        "summary=[sssim]: no run has a number of that name; did you mean ssim?",
        "summary=[second.per_victim]: no run has a number of that name; did you mean seconds.per_victim?",
        "summary=[zzz]: no run has a number of that name; there are ssim, mse, final_test_accuracy, test_accuracy",
    ]
    failed = record(0, None, status="failed", metrics={}, utility={})
    assert not summary([failed], [{"attack": "dlg"}], ["ssim"]).problems


def test_the_sentence_tells_of_the_attack_whatever_is_shown() -> None:
    records = [record(n, 0.4, metrics={"auc": 0.5 + n / 10}, choices={"attack": f"a{n}"}) for n in (0, 1)]
    told = "2 of 2 runs done; members told best: attack=a1, AUC 0.60, worst: attack=a0, AUC 0.50"
    assert summary(records, varied(records, "attack"), ["test_accuracy"]).words == told
    read = [record(n, 0.4, metrics={"overlap": n / 10}, choices={"attack": f"a{n}"}) for n in (0, 1)]
    assert "most words read: attack=a1, 10.0%" in summary(read, varied(read, "attack")).words
