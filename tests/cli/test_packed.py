"""``privsweep-store pack`` and ``unpack``: a table's runs in one file, and back."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY

from privsweep.cli import main as cli
from privsweep.cli import report, store
from privsweep.store import foreign
from privsweep.store.checksums import Checksums
from privsweep.store.sealed import sealed
from privsweep.store.store import Store

TABLE = """
# @package _global_
defaults: [override /dataset: digits, override /attack: blind, override /fl_setting: fedavg]
table:
  title: Mine
  place: ours
  rows: {ssim: {label: SSIM, metric: ssim, format: ".2f"}, acc: {label: Accuracy, metric: utility.test_accuracy}}
  columns: {a: {label: A, overrides: []}}
  seeds: [0, 1]
  findings: [{id: mine.a, claim: It is a number., check: "v('ssim', 'a') < 2", holds_in_print: true}]
"""


FIGURE = """
figure:
  kind: pictures
  row: ssim
  victims: 2
  panels: [{title: All, series: [{label: A, columns: [a]}]}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration of one's own and the output of its table."""
    root = tmp_path_factory.mktemp("packed")
    (root / "conf" / "experiment").mkdir(parents=True)
    (root / "conf" / "experiment" / "mine.yaml").write_text(TABLE.strip())
    conf, out = f"--config-dir={root / 'conf'}", f"output_dir={root / 'outputs'}"
    assert cli.main([conf, "experiment=mine", out, *TINY]) == 0
    Checksums(root / "outputs").add({"places": {}, "last": {"dataset=elsewhere": "0" * 16}})
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_table() -> Path:
    [table] = Path("outputs/smoke").rglob("*.csv")
    return table


def packed_file() -> Path:
    table = the_table()
    return table.with_name(f"{table.stem}.runs.tar.xz")


def files_in(root: str) -> set[str]:
    return {path.relative_to(root).as_posix() for path in Path(root, "runs").rglob("*") if path.is_file()}


def test_a_table_is_laid_out_elsewhere_from_its_packed_runs(
    made: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.main(["pack", str(the_table())]) == 0
    assert store.main(["unpack", str(packed_file()), "output_dir=other"]) == 0
    told = capsys.readouterr().out
    assert f"{packed_file()}: 2 runs, " in told
    assert f"{packed_file()}: 2 runs stored in other\n" in told
    assert {Path(name).name for name in files_in("other")} == {"record.json", "training.csv", "victims.csv"}
    for before in Path("outputs/runs").iterdir():
        assert Store(Path("other")).complete(before.name) == Store(Path("outputs")).complete(before.name)
    assert report.main(["mine", f"--config-dir={made / 'conf'}", "output_dir=other", *TINY]) == 0
    again = Path("other", *the_table().parts[1:])
    assert again.read_text() == the_table().read_text()
    assert again.with_suffix(".md").read_text() == the_table().with_suffix(".md").read_text().replace(
        "=outputs", "=other"
    )


def test_the_same_runs_make_the_same_bytes_and_those_that_are_there_stay(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.main(["pack", str(the_table())]) == 0
    assert store.main(["pack", "to=all.zip"]) == 2
    assert "to=all.zip: is written as a .tar.xz file" in capsys.readouterr().err
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    assert Path("all.tar.xz").read_bytes() == packed_file().read_bytes()
    before = {path: path.stat().st_mtime_ns for path in Path("outputs/runs").rglob("*")}
    assert store.main(["unpack", "all.tar.xz"]) == 0
    assert "0 runs stored in outputs; 2 were there" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in Path("outputs/runs").rglob("*")}


def test_pictures_are_packed_when_asked_for(here: Path) -> None:
    assert store.main(["pack", "to=all.tar.xz", "pictures=true"]) == 0
    assert store.main(["unpack", "all.tar.xz", "output_dir=other"]) == 0
    assert files_in("other") == files_in("outputs")


def test_checksums_of_the_runs_datasets_go_along_and_never_replace_known_ones(here: Path) -> None:
    known = Checksums(Path("outputs"))
    record = Store(Path("outputs")).records()[0]
    fingerprint = record["config"]["dataset"]["fingerprint"]
    known.add({"places": {}, "last": {"dataset=digits": fingerprint}})
    Checksums(Path("third")).add({"places": {}, "last": {"dataset=digits": "f" * 16}})
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    for folder in ("other", "third"):
        assert store.main(["unpack", "all.tar.xz", f"output_dir={folder}"]) == 0
    assert Checksums(Path("other")).last() == {"dataset=digits": fingerprint}
    assert Checksums(Path("third")).last() == {"dataset=digits": "f" * 16}


def test_a_disk_that_is_full_asks_for_room_and_the_same_command_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    write, written = foreign.whole_folder, list[Path]()

    def full(path: Path) -> object:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return write(path)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(foreign, "whole_folder", full)
        assert store.main(["unpack", "all.tar.xz", "output_dir=new"]) == 2
    assert "output_dir=new: no room for results (No space left on device)" in capsys.readouterr().err
    assert store.main(["unpack", "all.tar.xz", "output_dir=new"]) == 0
    assert capsys.readouterr().out == "all.tar.xz: 1 run stored in new; 1 were there\n"


def test_a_record_in_another_encoding_of_json_is_the_same_to_all_commands(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = next(here.glob("outputs/runs/*/record.json"))
    record.write_bytes(record.read_text().encode("utf-16"))
    assert store.main(["show", record.parent.name]) == 0
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    assert store.main(["unpack", "all.tar.xz", "output_dir=new"]) == 0
    assert "2 runs stored" in capsys.readouterr().out


def test_a_run_that_is_under_way_here_is_left_to_its_process(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    sign = min(path.name for path in Path("outputs/runs").iterdir())
    with Store(Path("other")).lock(f"run-{sign}"):
        assert store.main(["unpack", "all.tar.xz", "output_dir=other"]) == 0
    assert "1 run stored in other; 1 under way here stay as they are" in capsys.readouterr().out
    assert not Path("other/runs", sign).exists()


def test_a_table_some_of_whose_runs_are_gone_is_not_packed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign = min(path.name for path in Path("outputs/runs").iterdir())
    shutil.rmtree(Path("outputs/runs", sign))
    assert store.main(["pack", str(the_table())]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"output_dir=outputs: 1 of 2 runs is not stored there complete ({sign}); repeat")
    assert not packed_file().exists()


def unsealed_text(record: bytes) -> bytes:
    return json.dumps({name: value for name, value in json.loads(record).items() if name != "checksum"}).encode()


def forged(record: bytes) -> bytes:
    return json.dumps(sealed({"signature": json.loads(record)["signature"], "status": "complete"})).encode()


def changed(change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes]]) -> None:
    """all.tar.xz with every member as ``change`` makes it."""
    assert store.main(["pack", "to=all.tar.xz"]) == 0
    with tarfile.open("all.tar.xz") as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open("all.tar.xz", "w:xz") as archive:
        for member, content in members:
            name, content = change(member, content)
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m, c: (m.name, c.replace(b'"seed": 1', b'"seed": 2')), "changed since it was written"),
        (lambda m, c: (m.name, c + b"\n" if m.name.endswith(".csv") else c), "training.csv has changed since"),
        (lambda m, c: (m.name.replace("victims", "others"), c), "others.csv is none of its files"),
        (lambda m, c: (m.name.replace("record", "others"), c), "changed since it was written"),
        (lambda m, c: (m.name, unsealed_text(c) if m.name.endswith("record.json") else c), "changed since"),
        (lambda m, c: (m.name, forged(c) if m.name.endswith("record.json") else c), "lacks what privsweep writes"),
        (lambda m, c: (m.name.replace("victims.csv", "record.json"), c), "record.json is in two places"),
        (lambda m, c: (re.sub("^[0-9a-f]{12}/victims", "f" * 12 + "/victims", m.name), c), "is in two places"),
        (lambda m, c: (m.name.replace("checksums.json", "../away"), c), "../away is no file of a run"),
        (lambda m, c: (m.name, b"[" if m.name == "checksums.json" else c), "no such file as was written"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused_and_leaves_nothing(
    change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes]],
    reason: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed(change)
    assert store.main(["unpack", "all.tar.xz", "output_dir=other"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("all.tar.xz: ")
    assert reason in line
    assert line.endswith(("packed again", "pack"))
    left = [path for path in Path("other", "runs").rglob("*") if path.is_file()] if Path("other/runs").exists() else []
    assert all(Store(Path("other")).complete(path.parent.name) for path in left)
    assert not Path("away").exists()


@pytest.mark.parametrize("left", [0.3, 0.6, 0.99])
def test_a_file_that_was_cut_off_is_refused_before_anything_is_stored(
    left: float, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.main(["pack", "to=all.tar.xz", "pictures=true"]) == 0
    whole = Path("all.tar.xz").read_bytes()
    Path("all.tar.xz").write_bytes(whole[: int(left * len(whole))])
    assert store.main(["unpack", "all.tar.xz", "output_dir=other"]) == 2
    assert capsys.readouterr().err.startswith("all.tar.xz: is no whole file of packed runs (")
    assert not Path("other").exists()


def test_pictures_are_added_to_runs_that_were_unpacked_without(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.main(["pack", "to=numbers.tar.xz"]) == 0
    assert store.main(["pack", "to=all.tar.xz", "pictures=true"]) == 0
    for name in ("numbers", "all", "all"):
        assert store.main(["unpack", f"{name}.tar.xz", "output_dir=other"]) == 0
    told = capsys.readouterr().out
    assert "all.tar.xz: 0 runs stored in other; files of 2 more that they lacked\n" in told
    assert told.endswith("all.tar.xz: 0 runs stored in other; 2 were there\n")
    assert files_in("other") == files_in("outputs")


def test_what_else_is_left_of_a_run_stays_where_its_record_was_lost(here: Path) -> None:
    assert store.main(["pack", "to=numbers.tar.xz"]) == 0
    before = files_in("outputs")
    for folder in Path("outputs/runs").iterdir():
        (folder / "record.json").rename(folder / "record.corrupt")
    assert store.main(["unpack", "numbers.tar.xz"]) == 0
    assert files_in("outputs") == before


def test_a_run_whose_numbers_are_gone_is_not_packed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = min(Path("outputs/runs").iterdir())
    (folder / "victims.csv").unlink()
    assert store.main(["pack", "to=all.tar.xz"]) == 2
    assert "1 of 2 runs is not stored there complete" in capsys.readouterr().err


def test_names_with_signs_and_quotation_marks_are_taken_as_meant(here: Path) -> None:
    Path("lr=0.1").mkdir()
    assert store.main(["pack", 'to="lr=0.1/a, b.tar.xz"', "output_dir='outputs'"]) == 0
    assert store.main(["unpack", "./lr=0.1/a, b.tar.xz", 'output_dir="an other"']) == 0
    assert Path("an other/runs").is_dir()


def test_a_figure_of_pictures_stays_where_its_runs_were_unpacked_without(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("conf/experiment/mine.yaml").open("a") as file:
        file.write(FIGURE)
    asked = ["mine", "--config-dir=conf", *TINY]
    assert report.main(asked) == 0
    figure = the_table().with_suffix(".figure.png")
    before = figure.read_bytes()
    assert store.main(["pack", str(the_table())]) == 0
    shutil.rmtree("outputs/runs")
    assert store.main(["unpack", str(packed_file())]) == 0
    capsys.readouterr()
    assert report.main(asked) == 0
    assert "figure.png: stays as it is, for runs behind it are stored without pictures" in capsys.readouterr().err
    assert figure.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["pack"], "pack"),
        (["pack", "gone.csv"], "gone.csv"),
        (["pack", "conf/experiment/mine.yaml"], "conf/experiment/mine.yaml"),
        (["pack", "to=x", "pictures=some"], "pictures=some"),
        (["pack", "to=x", "output_dir=nowhere"], "output_dir=nowhere"),
        (["pack", "to=conf"], "to=conf"),
        (["unpack"], "unpack"),
        (["unpack", "gone.tar.xz"], "gone.tar.xz"),
        (["unpack", "conf/experiment/mine.yaml"], "conf/experiment/mine.yaml"),
        (["unpack", "a", "to=x"], "to=x"),
    ],
)
def test_what_cannot_be_packed_or_unpacked_is_refused_in_a_line(
    words: list[str], named: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{named}:")
