"""CelebA-HQ in the format in which it is published, in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privsweep.cli.data import main
from privsweep.dataset.identities import Identities
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

# Person -> images: two are as frequent as each other, one has too few.
PEOPLE = {2880: 10, 17: 15, 900: 4, 5: 10}
ORDER = (17, 5, 2880)


def shade(person: int) -> int:
    return 60 * (1 + [*PEOPLE].index(person))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images in one colour for each person, in an order that mixes them."""
    folder = tmp_path / "CelebAMask-HQ"
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    shown = [person for person, n in PEOPLE.items() for _ in range(n)]
    shown = [shown[i] for i in np.random.default_rng(0).permutation(len(shown))]
    mapping, identities = ["idx         orig_idx    orig_file"], []
    for idx, person in enumerate(shown):
        original = 200_000 - 7 * idx
        Image.new("RGB", (96, 96), (shade(person), idx, 0)).save(folder / "CelebA-HQ-img" / f"{idx}.jpg", quality=100)
        mapping.append(f"{idx:<12}{original - 1:<12}{original:06}.jpg")
        identities.append(f"{original:06}.jpg {person}")
    identities.append("000001.jpg 4")  # CelebA has more images than CelebA-HQ
    (folder / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(sorted(identities)) + "\n")
    return folder


@pytest.fixture
def data_dir(root, monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["celeba_hq", "--from", str(root), "data_dir=d"]) == 0
    return tmp_path / "d"


@pytest.fixture
def dataset(data_dir, plain):
    return lambda identities, **fields: Identities(
        name="celeba_hq", data_dir=data_dir, identities=identities, **{**plain, **fields}
    )


def test_people_are_classes_the_most_frequent_first(dataset):
    data = dataset(3).load(Rng(0))
    assert (data.name, data.domain.shape, data.domain.classes) == ("celeba_hq", (3, 64, 64), 3)
    assert data.train.labels.bincount().tolist() == [12, 8, 8]
    assert data.test.labels.bincount().tolist() == [3, 2, 2]
    for split in (data.train, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert abs(int(image[0].float().mean()) - shade(ORDER[label])) < 4


def test_fewer_identities_keep_the_split(dataset):
    every, two = dataset(3).load(Rng(0)), dataset(2).load(Rng(5))
    assert two.domain.classes == 2
    assert two.train.labels.unique().tolist() == [0, 1]
    assert (two.test.images == every.test.images[every.test.labels < 2]).all()


def test_the_split_and_the_file_are_always_the_same(root, data_dir, capsys):
    first = (data_dir / "celeba_hq.npz").read_bytes()
    assert main(["celeba_hq", "--from", str(root), "data_dir=e"]) == 0
    assert "28 + 7 images 3x64x64, 3 classes" in capsys.readouterr().out
    assert Path("e/celeba_hq.npz").read_bytes() == first


def test_more_identities_than_there_are(dataset):
    with pytest.raises(UserError, match=r"^dataset\.identities=4: celeba_hq\.npz has 3 identities; take 3 or fewer$"):
        dataset(4).load(Rng(0))


def test_without_it_the_user_is_told_where_it_is(tmp_path, plain, capsys):
    with pytest.raises(
        UserError, match=r"get CelebAMask-HQ \(.*identity_CelebA\.txt.*celeba_hq --from FOLDER"
    ) as error:
        Identities(name="celeba_hq", data_dir=tmp_path, identities=3, **plain).load(Rng(0))
    assert "\n" not in str(error.value)
    assert main(["celeba_hq", f"data_dir={tmp_path}"]) == 1
    assert "get CelebAMask-HQ" in capsys.readouterr().err


def _drop(name):
    return lambda root: (root / name).unlink()


def _append(name, line):
    return lambda root: (root / name).write_text((root / name).read_text() + line + "\n")


MAPPING, LIST = "CelebA-HQ-to-CelebA-mapping.txt", "identity_CelebA.txt"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_drop(MAPPING), f"{MAPPING} is not there; the folder must have it beside CelebA-HQ-img/"),
        (_drop(LIST), f"{LIST} is not there; the folder must have it"),
        (_drop("CelebA-HQ-img/0.jpg"), f"0.jpg is not there but in {MAPPING}; unpack all images"),
        (_append(MAPPING, "39 x"), f"line 41 of {MAPPING} has 2 fields, not 3; get the list anew"),
        (_append(MAPPING, "39 5 000006.jpg"), f"000006.jpg of {MAPPING} is not in {LIST}; get the whole list"),
        (_append(LIST, "000007.jpg someone"), f"{LIST} has someone where a number must be; get the list anew"),
        (lambda root: (root / LIST).write_text("000001.jpg 3\n"), f"is not in {LIST}"),
        (lambda root: (root / MAPPING).write_text(""), "0 identities have 5 images or more"),
        (lambda root: (root / "CelebA-HQ-img/0.jpg").write_text("torn"), "0.jpg is no readable image; remove or"),
    ],
)
def test_what_is_missing_or_malformed_is_named(root, tmp_path, capsys, monkeypatch, harm, says):
    monkeypatch.chdir(tmp_path)
    harm(root)
    assert main(["celeba_hq", "--from", str(root)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"--from={root}: ")
    assert says in error
    assert error.count("\n") == 1
    assert not Path("data").exists()
