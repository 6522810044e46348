"""Every YAML of the group builds and means what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from privsweep.cli import data as prefetch
from privsweep.dataset.base import Shaping
from privsweep.dataset.prepared import Prepared
from privsweep.interface.randomness import Rng

CHOICES = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))


def build(file: Path, tmp_path: Path, **values):
    config = OmegaConf.create({"data_dir": str(tmp_path), "dataset": OmegaConf.load(file)})
    if OmegaConf.is_missing(config.dataset, "path"):
        config.dataset.path = str(tmp_path / "own.npz")
    config.dataset.update(values)
    return instantiate(config.dataset, _convert_="all")


IMAGES = [file for file in CHOICES if file.stem not in {"multi30k", "unseen"}]


def test_all_choices_are_found():
    own = {"digits", "npz", "folder", "multi30k", "unseen"}
    names = {re.sub("_(64|128|224)$", "", name) for name in prefetch.NAMES}  # larger versions share a choice
    assert {file.stem for file in CHOICES} == own | names


def test_a_larger_version_is_a_file_of_its_own(tmp_path, npz):
    npz(name="pneumoniamnist_64")
    file = next(f for f in CHOICES if f.stem == "pneumoniamnist")
    data = build(file, tmp_path, name="pneumoniamnist_64", train_size=5).load(Rng(0))
    assert len(data.train) == 5


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.stem)
def test_every_choice_builds_and_takes_all_images_by_default(file, tmp_path):
    dataset = build(file, tmp_path)
    assert isinstance(dataset, Shaping)
    assert (dataset.train_size, dataset.test_size, dataset.prior_size, dataset.resize) == (None, None, 0, None)
    assert dataset.channels == "same"
    if isinstance(dataset, Prepared):
        assert dataset.name == file.stem
        assert dataset.data_dir == tmp_path


def test_all_choices_agree_on_the_scale_of_inputs():
    assert len({OmegaConf.load(file).normalize for file in IMAGES}) == 1


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.stem)
def test_every_value_has_a_comment(file):
    values = re.sub(r"^brings:.*\n(  .*\n)*", "", file.read_text(), flags=re.MULTILINE)
    lines = [line for line in values.splitlines() if not line.startswith(("#", "_target_"))]
    assert all(" # " in line and len(line) <= 110 for line in lines)


def test_a_published_choice_loads_its_file(tmp_path, npz):
    npz(name="pathmnist")
    file = next(f for f in CHOICES if f.stem == "pathmnist")
    data = build(file, tmp_path, train_size=7, prior_size=3).load(Rng(0))
    assert (data.name, len(data.train), len(data.prior)) == ("pathmnist", 7, 3)
