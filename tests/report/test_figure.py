"""An experiment's figure: its check, and every kind of it drawn from stored runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from pydantic import TypeAdapter

from privsweep.interface.errors import UserError
from privsweep.report.figure.boxes import values_of_victims
from privsweep.report.figure.histogram import values_of
from privsweep.report.figure.kinds import KINDS, write_figure
from privsweep.report.figure.pictures import pictures
from privsweep.report.figure.victims import chosen_victims
from privsweep.report.write import write
from privsweep.store.images import load_images, save_images
from privsweep.table.figure_spec import Figure as FigureSpec
from privsweep.table.figure_spec import Pictures, Series, Which
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table

COLUMNS = ("plain", "noisy")
PANELS = [{"title": "LeNet $x_", "series": [{"label": c, "columns": [c]} for c in COLUMNS]}]
CHART = {"row": "ssim", "x": ["all"], "xlabel": "model", "ylabel": "SSIM", "ylim": [0, 1], "panels": PANELS}
CURVES = {"kind": "curves", "row": "ssim", "value": "train_accuracy", "xlabel": "epoch", "ylabel": "%",
          "percent": True, "panels": PANELS}  # fmt: skip
PICTURES = {"kind": "pictures", "row": "ssim", "victims": 3, "panels": PANELS}
HISTOGRAM = {"kind": "histogram", "row": "ssim", "value": "ssim", "bins": 4, "xlabel": "SSIM", "ylabel": "victims",
             "panels": PANELS}  # fmt: skip
HEATMAP = {"kind": "heatmap", "row": "ssim", "x": ["all"], "xlabel": "model", "ylabel": "noise", "panels": PANELS}
SPECS = [*({**CHART, "kind": kind} for kind in ("bars", "lines", "boxes")), CURVES, HISTOGRAM, PICTURES, HEATMAP]


def table(figure: dict[str, Any] | None) -> Table:
    config = {
        "title": "A figure", "place": "nowhere", "seeds": [0, 1], "printed": {"ssim": {"plain": "0.5"}},
        "rows": {"ssim": {"label": "SSIM", "metric": "ssim", "format": ".2f"}},
        "columns": {c: {"label": c, "overrides": [f"model={c}"]} for c in COLUMNS},
    }  # fmt: skip
    return Table.from_config(config, "my/fig", figure)


def stored(root: Path, *jobs: str, figure: dict[str, Any] | None = None, scale: str = "quick") -> FilledTable:
    """Runs with two victims, three epochs and images."""
    random = np.random.default_rng(0)
    records: dict[str, Any] = {}
    for number, job in enumerate(jobs):
        folder = root / job
        folder.mkdir(parents=True, exist_ok=True)
        victims = pd.DataFrame({"victim": [0, 1], "ssim": [number / 10, 0.5], "mse": [0.2, 0.1]})
        victims.to_csv(folder / "victims.csv", index=False)
        pd.DataFrame({"round": [1, 2, 3], "train_accuracy": random.random(3)}).to_csv(folder / "training.csv")
        save_images(folder, random.random((2, 1, 3, 8, 8)), random.random((2, 1, 3, 8, 8)), {})
        records[job] = {"signature": job, "status": "complete", "scale": scale, "metrics": {"ssim": number / 10}}
    return fill_table(table(figure), records, scale, folder=lambda sign: root / sign)


def png_of(filled: FilledTable) -> bytes:
    with TemporaryDirectory() as folder:
        return write_figure(Path(folder) / "figure.png", filled).read_bytes()


ALL = ("plain-s0", "noisy-s0", "plain-s1", "noisy-s1")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["kind"])
@pytest.mark.parametrize("jobs", [ALL, ALL[:1], ()], ids=["all", "one", "none"])
def test_every_kind_is_drawn_from_what_is_there(tmp_path: Path, spec: dict[str, Any], jobs: tuple[str, ...]) -> None:
    path = write(stored(tmp_path / "runs", *jobs, figure=spec), tmp_path / "out")[-1]
    assert path == tmp_path / "out/paper/my/fig.quick.figure.png"
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.03


def test_a_series_may_have_a_row_of_its_own(tmp_path: Path) -> None:
    both = [
        {"title": "", "ylabel": r, "series": [{"label": r, "columns": ["plain"], "row": r}]} for r in ("ssim", "psnr")
    ]
    filled = stored(tmp_path, *ALL, figure={**CHART, "kind": "lines", "ylim": None, "logarithmic": True})
    lines = {**CHART, "kind": "lines", "ylim": None, "panels": both}
    with pytest.raises(
        UserError, match=r"figure\.panels\.1\.series\.0\.row=psnr: the table has no such row; there are ssim"
    ):
        table(lines)
    one, other = png_of(filled), png_of(stored(tmp_path, *ALL, figure={**lines, "panels": both[:1]}))
    assert one is not None
    assert one != other


@pytest.mark.parametrize("spec", [PICTURES, CURVES], ids=lambda spec: spec["kind"])
def test_pictures_and_curves_are_of_the_runs_of_a_series_own_row(tmp_path: Path, spec: dict[str, Any]) -> None:
    def drawn(row: str) -> bytes:
        panels = [{"title": "", "series": [{"label": "a", "columns": ["plain"], "row": row}]}]
        filled = stored(tmp_path, *ALL, figure=None)
        rows = {"ssim": filled.table.rows["ssim"], "other": filled.table.rows["ssim"]}
        folders = {("ssim", "plain", n): tmp_path / f"plain-s{n}" for n in (0, 1)}
        folders |= {("other", "plain", n): tmp_path / f"noisy-s{n}" for n in (0, 1)}
        figure = TypeAdapter(FigureSpec).validate_python({**spec, "panels": panels})
        made = filled.table.model_copy(update={"rows": rows, "figure": figure})
        cells = {(r, c): cell for (_, c), cell in filled.cells.items() for r in rows}
        return png_of(replace(filled, table=made, folders=folders, cells=cells))

    assert drawn("ssim") != drawn("other")


def test_a_heatmap_has_one_row() -> None:
    panels = [{"title": "", "series": [{"label": "a", "columns": ["plain"], "row": "ssim"}]}]
    with pytest.raises(UserError, match=r"figure\.panels\.0\.series\.0\.row=ssim: a heatmap has one row, figure\.row"):
        table({**HEATMAP, "panels": panels})


LABELS = [
    ((1, 50, 100, 240, 250, 260), 60),
    (tuple(range(1_000_000, 21_000_000, 1_000_000)), 30),
    ((1, 50, 100, 150, 200, 260), 0),
]


@pytest.mark.parametrize(("x", "angle"), LABELS, ids=["close", "long", "apart"])
def test_labels_that_would_run_into_each_other_are_tilted(tmp_path: Path, x: tuple[int, ...], angle: int) -> None:
    panel = {"title": "", "series": [{"label": "a", "columns": ["plain", *[None] * (len(x) - 1)]}]}
    filled = stored(tmp_path, *ALL, figure={**CHART, "kind": "lines", "x": list(x), "panels": [panel]})
    figure = KINDS["lines"](filled, filled.table.figure)
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_rotation() for label in labels] == [angle] * len(x)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in labels]
    assert angle or not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_lines_stand_aside_only_for_whiskers(tmp_path: Path) -> None:
    series = [{"label": c, "columns": [c, None]} for c in COLUMNS]
    lines = {**CHART, "kind": "lines", "x": [1, 5], "panels": [{"title": "", "series": series}]}

    def places(*jobs: str) -> set[float]:
        filled = stored(tmp_path / str(len(jobs)), *jobs, figure=lines)
        [axes] = KINDS["lines"](filled, filled.table.figure).axes
        return {float(line.get_xdata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 2}

    assert places("plain-s0", "noisy-s0") == {1.0}
    assert len(places(*ALL)) == 2


def test_a_bar_without_a_number_is_told_from_zero(tmp_path: Path) -> None:
    def marks(*jobs: str) -> int:
        filled = stored(tmp_path / str(len(jobs)), *jobs, figure={**CHART, "kind": "bars"})
        [axes] = KINDS["bars"](filled, filled.table.figure).axes
        return sum(text.get_text() == "×" for text in axes.texts)

    assert marks(*ALL) == 0
    assert marks("plain-s0", "plain-s1") == 1


@pytest.mark.parametrize(("length", "count"), [(4, 3), (12, 5), (40, 6), (90, 2)])
def test_the_legend_stays_inside_and_below(tmp_path: Path, length: int, count: int) -> None:
    series = [{"label": f"{n}".ljust(length, "w"), "columns": ["plain"]} for n in range(count)]
    filled = stored(tmp_path, *ALL, figure={**CHART, "kind": "lines", "panels": [{"title": "", "series": series}]})
    figure = KINDS["lines"](filled, filled.table.figure)
    FigureCanvasAgg(figure).draw()
    [legend], [axes] = figure.legends, figure.axes
    assert len(legend.texts) == count + 1  # with the printed numbers
    box, label = legend.get_window_extent(), axes.xaxis.label.get_window_extent()
    assert max(text.get_window_extent().y1 for text in legend.texts) < label.y0
    assert length > 80 or (box.x0 > 0 and box.x1 < figure.bbox.width)  # one name may be wider than the page


def test_names_of_pictures_stay_inside(tmp_path: Path) -> None:
    series = [{"label": "PRECODE, aware", "columns": ["plain"]}]
    filled = stored(tmp_path, "plain-s0", figure={**PICTURES, "panels": [{"title": "", "series": series}]})
    assert isinstance(filled.table.figure, Pictures)
    figure = pictures(filled, filled.table.figure)
    name = next(text for text in figure.axes[0].texts if text.get_text() == "PRECODE, aware")
    assert name.get_window_extent().x0 > 0.05 * figure.dpi


def test_histograms_count_the_victims_that_are_asked_for(tmp_path: Path) -> None:
    filled = stored(tmp_path, *ALL)
    for job in ALL:
        frame = pd.read_csv(tmp_path / job / "victims.csv")
        frame.assign(member=[True, False]).to_csv(tmp_path / job / "victims.csv", index=False)
    every = Series(label="all", columns=["plain"])
    assert sorted(values_of(filled, "ssim", every, "ssim")) == [0.0, 0.2, 0.5, 0.5]
    assert sorted(values_of(filled, "ssim", every.model_copy(update={"only": "member"}), "ssim")) == [0.0, 0.2]
    assert sorted(values_of(filled, "ssim", every.model_copy(update={"only": "not_member"}), "ssim")) == [0.5, 0.5]
    assert not len(values_of(filled, "ssim", every, "psnr"))


@pytest.mark.parametrize("kind", ["bars", "lines", "boxes"])
def test_numbers_move_what_is_drawn(tmp_path: Path, kind: str) -> None:
    spec = {**CHART, "kind": kind}
    one = png_of(stored(tmp_path, *ALL, figure=spec))
    other = png_of(stored(tmp_path, *reversed(ALL), figure=spec))
    again = png_of(stored(tmp_path, *ALL, figure=spec))
    assert one == again
    assert one != other


def test_boxes_are_over_the_victims_of_all_seeds(tmp_path: Path) -> None:
    assert sorted(values_of_victims(stored(tmp_path, *ALL), "ssim", "plain")) == [0.0, 0.2, 0.5, 0.5]
    assert len(values_of_victims(stored(tmp_path, *ALL[:2]), "ssim", "plain")) == 2


def test_boxes_are_of_the_answer_that_the_cell_shows(tmp_path: Path) -> None:
    filled = stored(tmp_path, *ALL[:1])
    pd.DataFrame({"ssim": [0.1, 0.2], "ssim_best": [0.8, 0.9]}).to_csv(tmp_path / ALL[0] / "victims.csv")
    row = filled.table.rows["ssim"].model_copy(update={"answer": "best"})
    best = replace(filled, table=filled.table.model_copy(update={"rows": {"ssim": row}}))
    assert values_of_victims(best, "ssim", "plain").tolist() == [0.8, 0.9]


@pytest.mark.parametrize(("which", "shown"), [("first", [0, 1, 2]), ("easiest", [2, 0, 1]), ("hardest", [1, 0, 2])])
def test_a_panel_shows_the_easiest_or_the_hardest_victims(tmp_path: Path, which: Which, shown: list[int]) -> None:
    """Each starts with the most extreme; what is not stored does not tell."""
    filled = stored(tmp_path, *ALL[:1])
    assert chosen_victims(filled, [("ssim", "noisy")], which, 2) == [0, 1]
    pd.DataFrame({"mse": [0.2, 0.3, 0.1]}).to_csv(tmp_path / ALL[0] / "victims.csv")
    for count in (2, 3):
        assert chosen_victims(filled, [("ssim", c) for c in ("noisy", "plain")], which, count) == shown[:count]


def test_the_hardest_are_drawn_otherwise_than_the_easiest(tmp_path: Path) -> None:
    panels = [{**PANELS[0], "which": which} for which in ("easiest", "hardest")]
    one, other = (
        png_of(stored(tmp_path, *ALL, figure={**PICTURES, "victims": 1, "panels": [panel]})) for panel in panels
    )
    assert one != other


def test_images_are_kept_to_the_byte(tmp_path: Path) -> None:
    truth, guess = np.linspace(0, 1, 512).reshape(2, 2, 2, 8, 8), np.full((2, 2, 2, 8, 8), 1.5)
    save_images(tmp_path, truth, guess, {})
    found = load_images(tmp_path)
    assert found is not None
    assert np.abs(found[0] / 255 - truth).max() <= 0.5 / 255 + 1e-9
    assert (found[1] == 255).all()
    assert load_images(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": "mse"}, r"figure\.row=mse: the table has no such row; there are ssim"),
        ({"x": ["a", "b"]}, r"figure\.panels\.0\.series\.0\.columns: are 1, but must be 2"),
        ({"kind": "pie"}, "figure.*pie"),
        ({"colour": "red"}, r"figure\.colour"),
        ({"panels": []}, r"figure\.panels"),
        ({"panels": [{"title": "", "series": [{"label": "a", "columns": ["vgg"]}]}]}, "no column vgg; there are plain"),
        ({"kind": "pictures", "victims": 1, "panels": [{**PANELS[0], "which": "best"}]}, r"which.*first"),
        ({"ylim": [0, "a"]}, r"figure\.ylim"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        table({**CHART, "kind": "lines", **changes})
    assert str(refusal.value).startswith("experiment=my/fig: ")
    assert "\n" not in str(refusal.value)


def test_every_kind_that_may_be_asked_for_is_drawn() -> None:
    asked = {
        kind for model in get_args(get_args(FigureSpec)[0]) for kind in get_args(model.model_fields["kind"].annotation)
    }
    assert asked == set(KINDS)
    assert {spec["kind"] for spec in SPECS} == asked
