"""The summary of an ad hoc sweep."""

from __future__ import annotations

from report_world import record

from privsweep.report.summary import summary


def test_a_summary_has_a_line_for_each_combination() -> None:
    wide = {"config": {"model": {"width": 64}}}
    made = summary([record(0, 0.4), record(1, 0.6), record(0, 0.9, **wide)], ["model.width", "seed"])
    assert made.head == ["model.width", "mse", "ssim", "test_accuracy", "runs"]
    assert made.rows == [["12", "0.25 ± 0", "0.5 ± 0.141", "0.5 ± 0", "2"], ["64", "0.25", "0.9", "0.5", "1"]]
    assert made.frame["ssim"].tolist() == [0.5, 0.9]
    assert made.markdown().startswith("| model.width |")
    assert made.csv().startswith("model.width,mse,mse_std")


def test_a_summary_averages_no_survivors() -> None:
    failed = record(1, None, status="failed", metrics={}, utility={})
    made = summary([record(0, 0.4), failed, record(2, None)], ["defense"])
    assert made.rows == [["[]", "", "", "", "2 of 3"]]
    assert summary([record(0, 0.4), record(1, None)], []).rows == [["0.25 ± 0", "N/A", "0.5 ± 0", "2"]]
