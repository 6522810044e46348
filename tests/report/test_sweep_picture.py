"""The picture beside a sweep's summary."""

import numpy as np
import pytest
from report_world import varied

import privsweep.plot.contact_sheet
from privsweep.report import sweep_picture as module
from privsweep.report.sweep_picture import sweep_picture
from privsweep.store.images import save_images
from privsweep.store.store import Store

RANDOM = np.random.default_rng(0)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A store, records in it by the names of their attacks, and what was drawn of them."""
    store, drawn = Store(tmp_path), []

    def record(attack: str, images: bool = True, status: str = "complete", originals=None):
        folder = store.folder(attack)
        folder.mkdir(parents=True)
        if images:
            originals = RANDOM.random((9, 2, 1, 4, 4)) if originals is None else originals
            save_images(folder, originals, RANDOM.random((9, 2, 1, 4, 4)), {})
        own = {"signature": attack, "status": status, "choices": {"attack": attack}, "config": {"seed": 3}}
        return {**own, "metrics": {"ssim": 0.125}, "utility": {}, "seconds": {}}

    def draw(path, lines, left_out):
        drawn.append((lines, left_out))
        return path

    monkeypatch.setattr(privsweep.plot.contact_sheet, "contact_sheet", draw)
    return store, record, drawn


def test_a_line_is_named_by_what_was_varied_and_shows_the_first_images(world, tmp_path):
    store, record, drawn = world
    records = [record("iga"), record("lost", images=False), record("dlg"), record("broken", status="failed")]
    assert sweep_picture(tmp_path / "s.png", records, varied(records, "attack", "seed"), store) == tmp_path / "s.png"
    ((lines, left_out),) = drawn
    assert [(line.name, line.number) for line in lines] == [
        ("attack=iga, seed=3", "mean SSIM 0.12"),
        ("attack=dlg, seed=3", "mean SSIM 0.12"),
    ]
    assert lines[0].guesses.shape == (8, 1, 4, 4)
    assert 0.5 < lines[0].originals.max() <= 1
    assert left_out == 0


def test_one_run_alone_has_its_own_picture_and_many_are_cut(world, tmp_path, monkeypatch):
    store, record, drawn = world
    assert sweep_picture(tmp_path / "s.png", [record("iga")], [{"attack": "iga"}], store) is None
    monkeypatch.setattr(module, "MOST_RUNS", 2)
    many = [record(f"own{n}") for n in range(5)]
    sweep_picture(tmp_path / "s.png", many, varied(many, "attack"), store)
    assert [(len(lines), left_out) for lines, left_out in drawn] == [(2, 3)]


def test_runs_on_the_same_originals_stand_together(world, tmp_path):
    store, record, drawn = world
    first, second = RANDOM.random((2, 9, 2, 1, 4, 4))
    records = [
        record(name, originals=images) for name, images in zip("abcd", (first, second, first, second), strict=True)
    ]
    sweep_picture(tmp_path / "s.png", records, varied(records, "attack"), store)
    ((lines, _),) = drawn
    assert [line.name for line in lines] == ["attack=a", "attack=c", "attack=b", "attack=d"]
