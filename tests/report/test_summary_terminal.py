"""The summary of an ad hoc sweep in the terminal."""

from __future__ import annotations

import io
import itertools

import pytest
from report_world import record, varied
from rich.console import Console

from privsweep.report.summary import Summary, summary
from privsweep.report.summary_terminal import summary_terminal

DEFENSES = ("precode", "gradient_quantization", "gradient_pruning")
METRICS = ("mse", "psnr", "ssim", "asr", "recovered", "diverged", "gradient_distance")


def lines(made: Summary, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(summary_terminal(made, width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def swept(*keys: str) -> Summary:
    """Two attacks by two models by three defences, over two seeds; every number is another."""
    records = []
    for n, (attack, model, defense) in enumerate(itertools.product(("dlg", "iga"), ("smlp", "lenet_dlg"), DEFENSES)):
        choices = {"attack": attack, "model": model, "defense": [defense]}
        for seed in (0, 1):
            numbers = {name: 1e-5 + n + 100 * m + 0.01 * seed for m, name in enumerate(METRICS)}
            records.append(record(seed, None, choices=choices, metrics=numbers))
    return summary(records, varied(records, *keys))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("keys", [("attack", "model"), ("attack", "model", "defense")])
def test_no_number_is_broken_and_none_is_left_out(width: int, keys: tuple[str, ...]) -> None:
    made = swept(*keys)
    shown = lines(made, width)
    assert max(map(len, shown)) <= width
    for row in made.rows:
        for text in row[len(keys) :]:
            assert any(text in line for line in shown)
    for name in made.head:
        assert all(any(part in line for line in shown) for part in name.split("_"))


def test_narrow_keys_stand_before_every_band() -> None:
    shown = lines(swept("attack", "model"), 80)
    heads = [line for line in shown if line.startswith("attack")]
    assert len(heads) > 1
    assert sum(line.startswith("iga     lenet_dlg") for line in shown) == len(heads)


def test_wide_keys_stand_once_and_a_number_for_them_before_every_band() -> None:
    shown = lines(swept("attack", "model", "defense"), 80)
    [first] = [line for line in shown if "gradient_pruning" in line and "iga" in line and "lenet_dlg" in line]
    assert first.startswith("12  iga     lenet_dlg  [gradient_pruning]")
    assert sum(line.startswith("12 ") for line in shown) == sum(line.startswith("# ") for line in shown) > 1


def test_what_fits_is_one_table_and_needs_no_number() -> None:
    made = summary([record(0, 0.4), record(1, 0.6)], [{"model.width": "12"}] * 2)
    shown = [line.rstrip() for line in lines(made, 80) if line.strip()]
    assert shown[0] == "model.width  mse       ssim         test_accuracy  runs"
    assert shown[2] == "12           0.25 ± 0  0.5 ± 0.141  0.5 ± 0        2"
    assert len(shown) == 3


def test_keys_wider_than_the_terminal_are_folded_and_the_numbers_are_not() -> None:
    made = swept("defense")
    made.rows[0][0] = "x" * 100
    shown = lines(made, 60)
    assert sum(line.count("x") for line in shown) == 100
    assert all(any(text in line for line in shown) for text in made.rows[0][1:])


def test_hostile_values_are_shown_as_they_are() -> None:
    made = summary([record(0, 0.4)], [{"attack": "\x1b[31m [bold]x[/]"}])
    assert r"\x1b[31m [bold]x[/]" in "\n".join(lines(made, 160))
