"""Several runs in one picture."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from privsweep.plot.contact_sheet import Line, contact_sheet

RANDOM = np.random.default_rng(0)
IMAGES, OTHERS = RANDOM.random((3, 1, 8, 8)), RANDOM.random((2, 3, 8, 8))


def height(path: Path) -> int:
    return imread(path).shape[0]


def test_originals_stand_once_above_the_runs_that_share_them(tmp_path):
    alike = [Line("attack=iga, $x$", "SSIM 0.50", IMAGES, IMAGES), Line("attack=dlg", "", IMAGES.copy(), IMAGES)]
    unlike = [alike[0], Line("attack=dlg", "", OTHERS, OTHERS)]
    unknown = [Line("attack=iga", "", None, IMAGES), Line("attack=dlg", "", None, OTHERS)]
    tall = [height(contact_sheet(tmp_path / f"{n}.png", runs)) for n, runs in enumerate((unknown, alike, unlike))]
    assert tall[0] < tall[1] < tall[2]
    assert abs(tall[0] - 2 * tall[1] + tall[2]) <= 1  # pixels


def test_it_says_how_many_runs_it_leaves_out(tmp_path):
    runs = [Line("seed=0", "", None, IMAGES)] * 2
    assert height(contact_sheet(tmp_path / "some.png", runs, 3)) > height(contact_sheet(tmp_path / "all.png", runs))
