"""The ROC curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from privsweep.plot.roc import draw_roc

FALSE, TRUE = np.array([0, 0, 0.01, 0.5, 1]), np.array([0, 0.1, 0.2, 0.9, 1])


def test_rare_false_alarms_have_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def savefig(self: Figure, *args: object, **how: object) -> None:
        drawn.append(self)
        save(self, *args, **how)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path = draw_roc(tmp_path / "roc.png", FALSE, TRUE, 200, "lira on $x_ digits")
    [axes] = drawn[0].axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlim() == (1 / 200, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("false positive rate", "true positive rate")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["attack (AUC = 0.75)", "chance"]
    assert imread(path).std() > 0.05


@pytest.mark.parametrize("true", [[0, 0, 1], [0, 1, 1]])
def test_an_attack_that_finds_none_or_all_is_drawn(tmp_path: Path, true: list[float]) -> None:
    path = draw_roc(tmp_path / "roc.png", np.array([0, 0, 1]), np.array(true), 1, "")
    assert path.stat().st_size > 0
