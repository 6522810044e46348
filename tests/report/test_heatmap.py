"""Heat maps: what stands in a cell, its colour, and the pictures beside the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from privsweep.interface.errors import UserError
from privsweep.plot.style import AMBER, INK
from privsweep.report.figure.heatmap import COLOURS, heatmap, readable_on
from privsweep.report.write import write
from privsweep.store.images import save_images
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table

# A number for each seed, of the cells a1 and a2 (first line), b1 and b2 (second line); None: N/A.
NUMBERS: dict[str, tuple[float | None, ...]] = {"a1": (0.4, 0.6), "a2": (0.9, 0.7), "b1": (0.1, 0.1), "b2": (None, 0.2)}
LINES = [{"label": "h=1", "columns": ["a1", "a2"]}, {"label": "h=2", "columns": ["b1", "b2"]}]
PANELS = [{"title": "VGG16", "series": LINES}]


def filled(root: Path, numbers: dict[str, tuple[float | None, ...]] = NUMBERS, **figure: Any) -> FilledTable:
    """Only the runs that ``numbers`` have; each has images of two victims."""
    config = {
        "title": "Split points", "place": "nowhere", "seeds": [0, 1],
        "rows": {"ssim": {"label": "Structure", "metric": "ssim", "format": ".2f"}},
        "columns": {c: {"label": c, "overrides": [f"model={c}"]} for c in NUMBERS},
    }  # fmt: skip
    spec = {"kind": "heatmap", "row": "ssim", "x": ["t=1", "t=2"], "xlabel": "second", "ylabel": "first",
            "panels": PANELS, **figure}  # fmt: skip
    records: dict[str, Any] = {}
    for column, values in numbers.items():
        for seed, value in enumerate(values):
            job = f"{column}-s{seed}"
            (root / job).mkdir(parents=True)
            pd.DataFrame({"victim": [0, 1], "ssim": [0.25, 0.75]}).to_csv(root / job / "victims.csv", index=False)
            save_images(root / job, np.zeros((2, 1, 3, 4, 4)), np.full((2, 1, 3, 4, 4), 0.5), {})
            records[job] = {"signature": job, "status": "complete", "scale": "quick", "metrics": {"ssim": value}}
    return fill_table(Table.from_config(config, "my/map", spec), records, "quick", folder=lambda sign: root / sign)


def drawn(table: FilledTable) -> Figure:
    assert table.table.figure is not None
    return heatmap(table, table.table.figure)  # type: ignore[arg-type]


def maps(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.patches and axes.texts]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_cell_shows_the_mean_over_seeds_and_its_spread(tmp_path: Path) -> None:
    figure = drawn(filled(tmp_path))
    [axes] = maps(figure)
    assert words(axes) == ["0.50", "± 0.14", "0.80", "± 0.14", "0.10", "± 0.00", "N/A"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["t=1", "t=2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["h=1", "h=2"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("second", "first", "VGG16")
    assert "Structure" in [other.get_ylabel() for other in figure.axes]


def test_lines_run_down_and_columns_to_the_right(tmp_path: Path) -> None:
    [axes] = maps(drawn(filled(tmp_path)))
    at = {text.get_text(): axes.transData.transform(text.get_position()) for text in axes.texts}
    assert at["0.50"][1] == pytest.approx(at["0.80"][1])
    assert at["0.50"][0] < at["0.80"][0]
    assert at["0.10"][1] < at["0.50"][1]


def test_what_has_no_number_says_why(tmp_path: Path) -> None:
    [axes] = maps(drawn(filled(tmp_path, {"a1": (0.4, 0.6), "a2": (0.9,), "b2": (None, None)})))
    assert words(axes) == ["0.50", "± 0.14", "1 of 2", "missing", "N/A"]
    assert [text.get_color() for text in axes.texts[2:]] == [AMBER, AMBER, INK]
    lines = [{"label": "h=1", "columns": ["a1", None]}]
    [axes] = maps(drawn(filled(tmp_path / "gap", panels=[{"title": "", "series": lines}])))
    assert len(axes.patches) == 1


def test_panels_share_one_scale_of_colours(tmp_path: Path) -> None:
    panels = [{"title": c, "series": [{"label": c, "columns": columns}]}
              for c, columns in (("p", ["a1", "a2"]), ("q", ["a1", "b1"]))]  # fmt: skip
    figure = drawn(filled(tmp_path, panels=panels))
    (one, high), (same, low) = ([patch.get_facecolor() for patch in axes.patches] for axes in maps(figure))
    assert one == same
    assert high == COLOURS(1.0)
    assert low == COLOURS(0.0)


def test_the_scale_may_be_given(tmp_path: Path) -> None:
    [axes] = maps(drawn(filled(tmp_path, limits=[0, 0.6])))
    assert axes.patches[1].get_facecolor() == COLOURS(1.0), "what lies beyond has the last colour"
    assert axes.patches[0].get_facecolor() == COLOURS(0.5 / 0.6)


def test_every_colour_leaves_its_number_readable() -> None:
    def luminance(paint: Any) -> float:
        values = np.array(paint)
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    inks = set()
    for paint in COLOURS(np.linspace(0, 1, 256)):
        ink = readable_on(tuple(paint))
        inks.add(ink)
        light, dark = sorted((luminance(paint[:3]), float(ink == "white")), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    assert inks == {"black", "white"}


def test_the_pictures_are_laid_out_as_the_map_is(tmp_path: Path) -> None:
    figure = drawn(filled(tmp_path, {"a1": (0.4, 0.6), "a2": (0.9, 0.7), "b2": (0.3, 0.3)}, victim=1))
    shown = next(axes for axes in figure.axes if axes.images)
    assert words(shown) == ["0.75", "0.75", "missing", "0.75", "original"]
    greys = [float(np.asarray(image.get_array()).mean()) for image in shown.images]
    assert greys == pytest.approx([0.5, 0.5, 0.5, 0], abs=0.01)
    small = " ".join(text.get_text() for text in figure.texts).split()
    assert "victim 1 of seed 0, below each its Structure" in " ".join(small)


def test_a_victim_that_is_not_there(tmp_path: Path) -> None:
    table = filled(tmp_path / "runs", victim=7)
    assert "no victim 7" in words(drawn(table).axes[-1])
    assert write(table, tmp_path / "out")[-1].name == "map.quick.figure.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": ["t=1"]}, r"figure\.panels\.0\.series\.0\.columns: are 2, but must be 1"),
        ({"victim": -1}, r"figure\.victim"),
        ({"limits": [0]}, r"figure\.limits"),
        ({"victims": 3}, r"figure\.victims"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        filled(tmp_path, **changes)
    assert "\n" not in str(refusal.value)
