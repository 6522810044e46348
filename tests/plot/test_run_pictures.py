"""Pictures are drawn without a display, from numbers of any kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from privsweep.plot import run_pictures
from privsweep.plot.run_pictures import curves, reconstructions

RANDOM = np.random.default_rng(0)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, instead of files."""
    drawn: list[Figure] = []

    def keep(path: Path, figure: Figure) -> Path:
        drawn.append(figure)
        return path

    monkeypatch.setattr(run_pictures, "save", keep)
    return drawn


@pytest.mark.parametrize("shape", [(20, 1, 1, 8, 8), (3, 1, 3, 32, 32), (1, 1, 1, 28, 28), (2, 8, 3, 16, 16)])
def test_reconstructions_are_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = RANDOM.random(shape)
    captions = [f"SSIM {i}" for i in range(shape[0])]
    path = reconstructions(tmp_path / "new" / "r.png", images, images, captions, "dlg on digits, $x$_{")
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.05
    assert [p.name for p in path.parent.iterdir()] == ["r.png"]


@pytest.mark.parametrize(
    ("shape", "heading"),
    [
        ((16, 4), "dlg"),
        ((64, 1), "dlg; the first 16 of 64 victims"),
        ((2, 8), "dlg; of each the nearest 4 of 8 images"),
        ((17, 5), "dlg; the first 16 of 17 victims; of each the nearest 4 of 5 images"),
    ],
)
def test_what_is_left_out_is_said(shape: tuple[int, int], heading: str, figures: list[Figure]) -> None:
    images = RANDOM.random((*shape, 1, 2, 2))
    reconstructions(Path("r.png"), images, images, title="dlg")
    assert figures[0].texts[0].get_text().replace("\n", " ") == heading


def test_values_that_are_no_pixels_are_drawn_too(tmp_path: Path) -> None:
    images = RANDOM.random((2, 1, 1, 8, 8))
    broken = np.full_like(images, np.nan)
    broken[0] = 1e30
    assert reconstructions(tmp_path / "r.png", images, broken).stat().st_size > 0


def test_shapes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        reconstructions(tmp_path / "r.png", np.zeros((1, 1, 1, 8, 8)), np.zeros((2, 1, 1, 8, 8)))


def test_small_pixels_stay_sharp(tmp_path: Path) -> None:
    board = (np.indices((8, 8)).sum(0) % 2).astype(float)[None, None, None]
    pixels = imread(reconstructions(tmp_path / "r.png", board, board))[..., 0]
    assert ((pixels > 0.05) & (pixels < 0.3)).mean() < 0.02  # interpolation would fill in greys


@pytest.mark.parametrize("values", [[1.0, 0.1, 0.01], [1.0, np.nan, np.nan], [0.0, 0.0, 0.0], [1.0, -0.5, -1.0]])
def test_curves_are_drawn(tmp_path: Path, values: list[float]) -> None:
    frame = pd.DataFrame(
        {"iteration": [0, 5, 10] * 2, "victim": [0] * 3 + [1] * 3, "gradient_distance": [*values, 3.0, 2.0, 1.0]}
    )
    assert imread(curves(tmp_path / "c.png", frame, "a title")).std() > 0.01


def test_few_iterations_of_one_victim(figures: list[Figure]) -> None:
    frame = pd.DataFrame({"iteration": [1, 2, 3], "victim": 0, "gradient_distance": [0.3, 0.2, 0.1]})
    curves(Path("c.png"), frame)
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["median", "1 victim"]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert len({label.get_fontsize() for label in axes.get_yticklabels(which="both")}) == 1


def test_a_curve_that_no_line_goes_through_is_seen(figures: list[Figure]) -> None:
    """One iteration is a point, and of an attack that diverged at once the picture says why it is empty."""
    for value in (0.3, np.inf):
        curves(Path("c.png"), pd.DataFrame({"iteration": [1], "victim": 0, "gradient_distance": [value]}))
    point, empty = (figure.axes[0] for figure in figures)
    assert {line.get_marker() for line in point.lines if len(line.get_xdata())} == {"."}
    assert [text.get_text() for text in point.texts] == []
    assert [text.get_text() for text in empty.texts] == ["no value is finite"]


def test_of_many_images_those_are_shown_that_came_nearest(figures: list[Figure]) -> None:
    originals = np.linspace(0, 1, 6)[None, :, None, None, None]
    guesses = np.full_like(originals, 0.5)
    guesses[0, 5] = 1.0
    reconstructions(Path("r.png"), originals, guesses)
    above = [float(image.get_array().mean()) for image in figures[0].axes[0].images[::2]]
    assert above == pytest.approx([1.0, 0.4, 0.6, 0.2])


def test_images_that_are_no_squares_keep_their_proportions(figures: list[Figure]) -> None:
    tall, wide = np.zeros((1, 1, 1, 8, 4)), np.zeros((1, 1, 3, 4, 8))
    for images in (tall, wide):
        reconstructions(Path("r.png"), images, images)
    boxes = [figure.axes[0].images[0].get_window_extent() for figure in figures]
    assert [box.width / box.height for box in boxes] == pytest.approx([0.5, 2])


@pytest.mark.parametrize("values", [[1.0, 3e-12], [-1e-5, 2.5e-5], [3e8, -2.5e8], [-1.00001, -1.00002]])
def test_the_words_of_a_curve_stay_inside_and_apart(values: list[float], figures: list[Figure]) -> None:
    frame = pd.DataFrame({"iteration": [1, 2], "victim": 0, "gradient_distance": values})
    curves(
        Path("c.png"), frame, "iga on cifar10, resnet18 with batch normalisation, fedavg, noisy_gradients; seed 0 " * 2
    )
    [axes], [heading] = figures[0].axes, figures[0].texts
    FigureCanvasAgg(figures[0]).draw()
    title, power = heading.get_window_extent(), axes.yaxis.get_offset_text()
    assert axes.yaxis.label.get_window_extent().x0 >= 0
    assert axes.xaxis.label.get_window_extent().y0 >= 0
    assert title.x1 <= figures[0].bbox.x1
    assert not power.get_text() or power.get_window_extent().y1 <= title.y0
    assert axes.get_window_extent().y1 < title.y0
