"""The page in a browser: runs compared, defences weighed, and what differential privacy allows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Page, four
from page_world import failed, html
from report_world import record


def test_two_runs_are_compared_and_defences_weighed(page: Page, tmp_path: Path) -> None:
    page.open(four(tmp_path))
    for place in (0, 2):
        page.click("input[data-run]", place)
    page.click("[role=tab]", 1)
    page.click("[role=tab]", 1)
    lines = page.all(".compare tbody tr")
    assert "defensedp_sgdnone" in lines
    assert "SSIM0.10.9+0.8" in lines
    assert not any(line.startswith(("model.width", "MSE")) for line in lines)  # what is the same
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    points = page.all("[role=tabpanel] svg[role=img] .dot title")
    assert sorted(point.split(":")[0] for point in points) == ["dp_sgd", "no defence"]
    assert any("2 seeds\nfinal test accuracy 50.0%, SSIM 0.8" in point for point in points)
    front = page.all(".beside tbody td:first-child")
    assert front == ["dp_sgd", "no defence"]
    page.click("[role=tab]", 3)
    assert "1 with a privacy budget, 1 without" in page.text("[role=tabpanel]")
    assert not page.complaints()


def test_a_seed_that_failed_or_has_no_number_leaves_no_mean_of_the_others(page: Page, tmp_path: Path) -> None:
    defended = {"choices": {**record(0, 0.9)["choices"], "defense": ["dp_sgd"]}}
    for lost in (record(3, None, **defended), failed(3, "ValueError: the loss is not finite", **defended)):
        page.open(html(tmp_path, record(0, 0.9), record(1, 0.7), record(2, 0.1, **defended), lost))
        page.click("[role=tab]", 2)
        page.choose("leakage", "ssim")
        points = "svg[role=img] .dot title"
        assert [title.split(":")[0] for title in page.all(points)] == ["no defence"]
        assert "1 without a mean, for a seed failed or has no number" in page.text("[role=tabpanel] .bar")
        page.click("[role=tabpanel] input[type=checkbox]")
        assert len(page.all(points)) == 3
        assert "without a mean" not in page.text("[role=tabpanel] .bar")


def test_a_model_counts_by_the_attack_that_gets_most_from_it(page: Page, tmp_path: Path) -> None:
    strong, weak = ({"uses": {"systems": ["a"]}, "config": {"seed": 0, "attack": {"lr": lr}}} for lr in (1, 2))
    other = {"uses": {"systems": ["b"]}, "utility": {"test_accuracy": 0.4}, "config": {"seed": 0}}
    batch = {**strong, "config": {**strong["config"], "fl_setting": {"capture": {"batch_size": 8}}}}
    runs = [record(0, 0.9, **strong), record(1, 0.1, **weak), record(2, 0.5, **other)]
    page.open(html(tmp_path, *runs))
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    assert page.all(".beside tbody td:last-child") == [f"{n:012x}" for n in (2, 0)]
    page.open(html(tmp_path, *runs, record(3, 0.3, **batch)))
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    assert page.all(".beside tbody td:last-child") == [f"{3:012x}"]  # clients that send batches leak less in truth
    assert [title.split("SSIM ")[1] for title in page.all("svg[role=img] .dot[opacity] title")] == ["0.1"]
    assert not page.complaints()


@pytest.mark.parametrize(
    ("metric", "most"),
    [
        ("tpr_at_1_fpr", lambda e, d: min(math.exp(e) * 0.01 + d, 1 - math.exp(-e) * (1 - d - 0.01))),
        ("balanced_accuracy", lambda e, d: (1 + (math.exp(e) - 1 + 2 * d) / (math.exp(e) + 1)) / 2),
    ],
)
@pytest.mark.parametrize("epsilon", [1.0, 6.0])
def test_what_differential_privacy_allows_is_drawn(
    page: Page, tmp_path: Path, metric: str, most: Callable[[float, float], float], epsilon: float
) -> None:
    """A run that leaks as much lies on the line, which begins at half its budget and ends at twice."""
    delta = 0.001
    measured = {"auc": 0.7, metric: most(epsilon, delta), "ssim": 0.1}
    privacy = {"dp_sgd": {"epsilon": epsilon, "delta": delta}}
    page.open(html(tmp_path, record(0, 0.1, metrics=measured, privacy=privacy, utility={})))
    page.click("[role=tab]", 2)
    page.choose("leakage", metric)
    paths = [page.run(f"return document.querySelector('[role=img] {c}').getAttribute('d')") for c in (".limit", ".dot")]
    line, [(x, y)] = (re.findall(r"[ML]([\d.]+) ([\d.]+)", path) for path in paths)
    assert float(line[32][0]) - 4 == pytest.approx(float(x), abs=0.2)
    assert float(line[32][1]) == pytest.approx(float(y), abs=0.2)
    assert "differential privacy allows, δ = 0.001 (Kairouz et al., 2015)" in page.text(".key")
    page.choose("leakage", "ssim")
    assert page.run("return document.querySelectorAll('.limit').length") == 0
    assert not page.complaints()


@pytest.mark.parametrize(("covers", "drawn"), [("what the adversary sees", 1), ("released model", 0)])
def test_no_bound_is_drawn_for_what_the_budget_does_not_cover(
    page: Page, tmp_path: Path, covers: str, drawn: int
) -> None:
    privacy = {"dp_sgd": {"epsilon": 1.0, "delta": 0.001, "covers": covers}}
    measured = {"auc": 0.7, "balanced_accuracy": 0.6}
    page.open(html(tmp_path, record(0, 0.1, metrics=measured, privacy=privacy, utility={})))
    page.click("[role=tab]", 2)
    page.choose("leakage", "balanced_accuracy")
    for where in ("svg[role=img]", ".key"):
        assert page.run("return document.querySelectorAll(`${arguments[0]} .limit`).length", where) == drawn
    assert not page.complaints()
