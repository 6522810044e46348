"""Planning and reporting without the datasets: records are found, and nothing is downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, small_table

from privsweep.cli import report, sweep
from privsweep.dataset import download, folder
from privsweep.dataset.prepared import Prepared
from privsweep.dataset.sources import OFFICIAL, Official
from privsweep.store.atomic import read_json

SMALL = """\
# @package _global_
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
  columns:
    two: {label: Two, overrides: [fl_setting.clients=2]}
    three: {label: Three, overrides: [fl_setting.clients=3]}
    four: {label: Four, overrides: [fl_setting.clients=4]}
  seeds: [0]
"""


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """The arguments that name a table of three cells."""
    small_table(tmp_path, SMALL)
    return ["--config-dir", str(tmp_path / "conf"), "attack.iterations=1"]


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("asked the publisher")

    for called in ("reachable", "_fetch"):
        monkeypatch.setattr(download, called, refuse)


def test_records_are_found_without_their_data_and_nothing_is_downloaded(
    privsweep: Any,
    npz: Any,
    members: Any,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    no_download: None,
) -> None:
    path = npz(members(train=80, test=20, size=(8, 8)), name="mnist")
    given = [*small, "dataset=mnist", *TINY]
    run = ["experiment=small", f"data_dir={tmp_path}", *given]
    assert privsweep(*run, tiny=False) == 0
    path.unlink()
    capsys.readouterr()
    assert privsweep(*run, "plan=true", tiny=False) == 0
    assert "3 runs, 0 to do" in capsys.readouterr().out
    assert privsweep(*run, tiny=False) == 0, "the table is complete, so nothing is fetched for it"
    capsys.readouterr()
    assert report.main(["small", "data_dir=empty", *given[2:], *given[:2]]) == 0
    assert "3 of 3 runs complete" in capsys.readouterr().out
    assert privsweep("dataset=mnist", f"data_dir={tmp_path}", "attack.iterations=1", *TINY, "fl_setting.clients=2",
                     "force=no", tiny=False) == 0, "a single run that is stored"  # fmt: skip
    assert privsweep(*run, "table.seeds=[7]", "plan=true", tiny=False) == 0
    assert "3 runs, 3 to do" in capsys.readouterr().out


def test_what_is_downloaded_signs_the_run_not_what_was_known(
    privsweep: Any, npz: Any, members: Any, plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = members(train=80, test=20, size=(8, 8))
    path = npz(values, name="mnist")
    given = ["dataset=mnist", f"data_dir={tmp_path}", "attack=none", *TINY]
    assert privsweep(*given, tiny=False) == 0
    old = Prepared(name="mnist", data_dir=tmp_path, **plain).fingerprint()
    path.unlink()
    (tmp_path / "publisher").touch()
    new = {**values, "train_images": values["train_images"][::-1]}
    monkeypatch.setitem(OFFICIAL, "mnist", Official(lambda _: new, lambda: [(tmp_path / "publisher").as_uri()]))
    assert privsweep(*given, tiny=False) == 0
    assert not path.exists(), "the result is stored"
    assert privsweep(*given, "seed=1", tiny=False) == 0
    records = [read_json(p) for p in tmp_path.glob("outputs/runs/*/record.json")]
    found = {record["config"]["seed"]: record["config"]["dataset"]["fingerprint"] for record in records}
    assert found == {0: old, 1: Prepared(name="mnist", data_dir=tmp_path, **plain).fingerprint()}
    assert found[0] != found[1]


def test_data_that_were_never_seen_are_told_in_one_line_and_not_downloaded(
    privsweep: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], no_download: None,
) -> None:  # fmt: skip
    text = SMALL.replace("[fl_setting.clients=4]", "[dataset=emnist]")
    (tmp_path / "conf" / "experiment" / "small.yaml").write_text(text)
    assert privsweep("experiment=small", *small, *TINY, "plan=true", tiny=False) == 0
    shown = capsys.readouterr()
    assert "2 runs, 2 to do" in shown.out
    assert re.fullmatch(r"left out: dataset=emnist: .*emnist\.npz is not there; run .*\n", shown.err)
    for true in ("true", "yes", "1"):
        assert privsweep("dataset=emnist", *TINY, f"plan={true}", tiny=False) == 2
    assert report.main(["small", "dataset=emnist", *small[2:], *small[:2]]) == 2
    assert capsys.readouterr().err.count("\n") == 4


def test_a_folder_of_images_is_read_once_for_all_cells(
    privsweep: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8)).astype(np.uint8)).save(path)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    reads: list[Path] = []
    checksum = folder.tree_checksum
    monkeypatch.setattr(folder, "tree_checksum", lambda root, tree: (reads.append(root), checksum(root, tree))[1])
    shape = [
        "dataset=folder",
        f"dataset.path={tmp_path}/images",
        "model.width=3",
        "fl_setting.victims=2",
        "scale=smoke",
    ]
    given = ["experiment=small", small[-1], *shape, f"output_dir={tmp_path}/out"]
    signatures = []
    for _ in range(2):
        planned = sweep.plan(given, small[1], multirun=False)
        signatures.append([run.spec.signature for run in planned.runs])
        assert len(planned.runs) == 3
    assert len(reads) == 1
    assert signatures[0] == signatures[1]
    os.utime(path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    planned = sweep.plan(given, small[1], multirun=False)
    assert not {run.spec.signature for run in planned.runs} & set(signatures[0])
