from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from privsweep.cli import data as prefetch
from privsweep.cli.data import main
from privsweep.dataset.prepared import Prepared
from privsweep.dataset.sources import OFFICIAL, Official
from privsweep.interface.randomness import Rng

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def here(tmp_path, monkeypatch, members):
    """A publisher of cifar10 that answers, and one of cifar100 that does not."""
    (tmp_path / "site").touch()
    site = [(tmp_path / "site").as_uri()]
    monkeypatch.setitem(OFFICIAL, "cifar10", Official(lambda _: members(size=(8, 8, 3)), lambda: site))
    monkeypatch.setitem(OFFICIAL, "cifar100", Official(lambda _: {}, lambda: ["http://no-such-host.invalid/"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_downloads_and_says_what_is_where(here, capsys):
    assert main(["cifar10", "digits", "data_dir=d"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == (
        ["cifar10", "d/cifar10.npz", "written", "40", "+", "12", "images", "3x8x8,", "4", "classes,", "0.0", "MB"]
    )
    assert "inside scikit-learn" in out.splitlines()[1]
    assert "cifar10: downloading" in err
    assert main(["cifar10", "data_dir=d"]) == 0
    assert "d/cifar10.npz  there" in capsys.readouterr().out


def test_one_failure_does_not_stop_the_others(here, capsys):
    assert main(["cifar100", "cifar10"]) == 1
    out, err = capsys.readouterr()
    assert "data/cifar10.npz" in out
    assert 'run "privsweep-data cifar100 data_dir=data" where there is a network' in err
    assert [p.name for p in (here / "data").iterdir()] == ["cifar10.npz"]


def test_a_malformed_file_is_a_failure(here, capsys):
    (here / "data").mkdir()
    (here / "data" / "cifar10.npz").write_text("torn")
    assert main(["cifar10"]) == 1
    assert "dataset=cifar10: data/cifar10.npz: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fashion-mnst"], "fashion-mnst: no such dataset; did you mean fashion_mnist? there are mnist, "),
        (["zzzz", "cifar10"], "zzzz: no such dataset; there are mnist, "),
        (["cifar10", "datadir=x"], "datadir=x: the only key here is data_dir"),
        (["cifar10", "--from", "x"], "--from=x: goes with one name that has no download: medical_mnist"),
    ],
)
def test_a_wrong_command_line_does_nothing(here, capsys, words, says):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(says)
    assert err.count("\n") == 1
    assert not out
    assert not (here / "data").exists()


def test_without_names_it_lists(here, capsys):
    main(["cifar10"])
    capsys.readouterr()
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "data/cifar10.npz" in out
    assert "not in data" in out
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in out.splitlines()}) == 1  # one column
    assert {line.split()[0] for line in out.splitlines()} == {*prefetch.NAMES, "digits"}


def test_help_names_every_dataset(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in prefetch.NAMES)
    assert max(map(len, out.splitlines())) <= 110


@pytest.fixture
def archive(tmp_path):
    for k, name in enumerate(("AbdomenCT", "Hand")):
        for i in range(10):
            pixels = np.full((64, 64), 20 * i + k, dtype=np.uint8)
            (tmp_path / "archive" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "archive" / name / f"{i:06}.jpeg")
    return tmp_path / "archive"


def test_medical_mnist_from_a_folder(here, archive, capsys, plain):
    assert main(["medical_mnist", "--from", str(archive), "data_dir=d"]) == 0
    assert "16 + 4 images 1x64x64, 2 classes" in capsys.readouterr().out
    with np.load(here / "d" / "medical_mnist.npz") as prepared:
        assert prepared["train_images"].shape == (16, 64, 64)
        assert prepared["test_labels"].shape == (4, 1)
    data = Prepared(name="medical_mnist", data_dir="d", **plain).load(Rng(0))
    assert data.test.labels.bincount().tolist() == [2, 2]
    first = (here / "d" / "medical_mnist.npz").read_bytes()
    assert main(["medical_mnist", "--from", str(archive), "data_dir=e"]) == 0
    assert (here / "e" / "medical_mnist.npz").read_bytes() == first, "the split is always the same"


def test_a_source_that_is_no_folder(here, capsys):
    assert main(["medical_mnist", "--from", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("--from=nowhere: no such folder")
    assert not (here / "data").exists()


def test_a_place_that_cannot_be_written(here, archive, capsys):
    assert main(["medical_mnist", "--from", str(archive), f"data_dir={300 * 'x'}"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("cannot be written (File name too long); set data_dir")


def test_no_place_at_all(here, capsys):
    for words in ([], ["cifar10"]):
        assert main([*words, "data_dir="]) == 2
        assert capsys.readouterr().err == "data_dir=: has no value; give one, or leave it out\n"


def test_the_folder_is_the_sweeps_own():
    assert OmegaConf.load(CONF / "config.yaml").data_dir == prefetch.DATA_DIR
