from __future__ import annotations

import pytest

from privsweep.dataset.prepared import Npz, Prepared
from privsweep.dataset.sources import PUBLISHED
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng


def test_a_prepared_file_by_its_name(npz, tmp_path, plain):
    npz(name="mnist")
    dataset = Prepared(name="mnist", data_dir=tmp_path, **plain)
    data = dataset.load(Rng(0))
    assert data.name == "mnist"
    assert data.train.images.shape == (40, 1, 6, 6)


def test_the_fingerprint_is_of_contents_not_of_places(npz, tmp_path, plain, members):
    path = npz(name="mnist")
    by_name = Prepared(name="mnist", data_dir=tmp_path, **plain).fingerprint()
    own = Npz(path=path, **plain)
    assert own.fingerprint() == by_name
    moved = Npz(path=path.rename(tmp_path / "elsewhere.npz"), **plain)
    assert moved.fingerprint() == by_name
    values = members()
    values["test_labels"][0] ^= 1
    assert Npz(path=npz(values), **plain).fingerprint() != by_name


def test_the_name_of_own_data_says_nothing_of_its_place(npz, plain):
    assert Npz(path=npz(name="secret_project"), **plain).load(Rng(0)).name == "npz"


def test_a_missing_own_file(tmp_path, plain):
    dataset = Npz(path=tmp_path / "x.npz", **plain)
    for use in (dataset.fingerprint, lambda: dataset.load(Rng(0))):
        with pytest.raises(UserError, match=r"^dataset\.path=.*x\.npz: no such file; set dataset\.path to"):
            use()


def test_a_malformed_file_is_named(npz, tmp_path, plain, members):
    values = members()
    del values["test_labels"]
    path = npz(values, name="mnist")
    with pytest.raises(UserError, match=rf"^dataset=mnist: {path}: test_labels missing"):
        Prepared(name="mnist", data_dir=tmp_path, **plain).load(Rng(0))
    with pytest.raises(UserError, match=rf"^dataset\.path={path}: test_labels missing"):
        Npz(path=path, **plain).load(Rng(0))


def test_a_file_with_fewer_images_than_were_published_is_a_subset(npz, tmp_path, plain, monkeypatch):
    npz(name="mnist")
    dataset = Prepared(name="mnist", data_dir=tmp_path, **plain)
    data = dataset.load(Rng(0))
    there = len(data.train) + len(data.test)
    assert data.subset == (there, 70_000)
    monkeypatch.setitem(PUBLISHED, "mnist", there)
    assert dataset.load(Rng(0)).subset is None
    npz(name="mine")
    assert Prepared(name="mine", data_dir=tmp_path, **plain).load(Rng(0)).subset is None
