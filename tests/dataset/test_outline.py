"""What is told of a dataset without its pixels is what loading it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from privsweep.dataset.folder import Folder
from privsweep.dataset.identities import Identities
from privsweep.dataset.prepared import Npz, Prepared
from privsweep.interface.data import ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

FIELDS: list[dict[str, Any]] = [
    {},
    {"train_size": 9, "test_size": 3, "prior_size": 7},
    {"canaries": 9, "normalize": True},
    {"train_size": 38, "test_size": 2, "prior_size": 8},
    {"resize": 9, "channels": "rgb", "normalize": True},
    {"resize": 3, "channels": "grey"},
]


def same(outlined: ImageSet | None, loaded: ImageSet | None) -> None:
    if outlined is None or loaded is None:
        assert outlined is loaded
        return
    assert outlined.images.is_meta
    assert (outlined.images.shape, outlined.images.dtype) == (loaded.images.shape, loaded.images.dtype)
    assert torch.equal(outlined.labels, loaded.labels)


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("size", [(6, 6), (6, 8, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("kind", ["npz", "prepared", "identities", "folder"])
def test_shapes_numbers_and_labels_are_those_of_the_whole(
    kind: str, size: tuple[int, ...], fields: dict[str, Any], npz: Callable[..., Path], members: Callable[..., Any],
    plain: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    values = {**plain, **fields}
    dataset: Any
    if kind == "folder":
        for split, count in (("train", 40), ("test", 12)):
            for n in range(count):
                path = tmp_path / "images" / split / "abcd"[n % 4] / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros(size, np.uint8)).save(path)
        dataset = Folder(path=tmp_path / "images", test_fraction=0.2, **values)
    else:
        path = npz(members(size=size), name="own")
        there = {"name": "own", "data_dir": path.parent, **values}
        made = {
            "npz": lambda: Npz(path=path, **values),
            "prepared": lambda: Prepared(**there),
            "identities": lambda: Identities(identities=4, **there),
        }
        dataset = made[kind]()
    outlined, loaded = dataset.outline(Rng(3)), dataset.load(Rng(3))
    for split in ("train", "test", "prior"):
        same(getattr(outlined, split), getattr(loaded, split))
    assert (outlined.canaries is None) == (loaded.canaries is None) == ("canaries" not in fields)
    if loaded.canaries is not None:
        same(outlined.canaries.outside, loaded.canaries.outside)
        assert torch.equal(outlined.canaries.inside, loaded.canaries.inside)
    assert (outlined.domain.shape, outlined.domain.classes) == (loaded.domain.shape, loaded.domain.classes)
    assert (outlined.prior_of_test, outlined.subset) == (loaded.prior_of_test, loaded.subset)


@pytest.mark.parametrize("fields", [{"train_size": 41}, {"test_size": 13}, {"prior_size": 40}], ids=str)
def test_more_images_than_there_are_are_refused_in_the_same_words(
    fields: dict[str, int], npz: Callable[..., Path], plain: dict[str, Any]
) -> None:
    dataset = Npz(path=npz(), **{**plain, **fields})
    said = []
    for way in (dataset.outline, dataset.load):
        with pytest.raises(UserError) as caught:
            way(Rng(0))
        said.append(str(caught.value))
    assert said[0] == said[1]
