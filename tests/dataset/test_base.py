from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from privsweep.dataset.base import Shaping
from privsweep.dataset.npz_format import validated
from privsweep.interface.data import ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng


def rows(split: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


@pytest.fixture
def shape(arrays, plain):
    def go(seed: int = 0, sizes: dict | None = None, **fields):
        return Shaping(**{**plain, **fields}).shape("tiny", arrays(**(sizes or {})), Rng(seed))

    return go


def test_all_images_in_the_files_order(shape, members):
    data = shape()
    assert (data.name, len(data.train), len(data.test), data.prior) == ("tiny", 40, 12, None)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(members()["train_images"]))
    assert data.train.labels.tolist() == [i % 4 for i in range(40)]
    assert data.domain.shape == (1, 6, 6)
    assert data.domain.classes == 4


def test_colour_comes_channels_first_and_contiguous(shape, members):
    size = (6, 6, 3)
    for data in (shape(sizes={"size": size}), shape(sizes={"size": size}, train_size=5)):
        assert data.domain.shape == (3, 6, 6)
        assert data.train.images.is_contiguous()
        assert data.test.images.is_contiguous()
    whole = torch.from_numpy(members(size=size)["test_images"])
    assert torch.equal(data.test.images[3, 2], whole[3, :, :, 2])


def test_a_subset_depends_on_the_seed_alone(shape):
    first, again, other = shape(train_size=10), shape(train_size=10, channels="rgb", resize=9), shape(1, train_size=10)
    assert first.train.labels.tolist() == again.train.labels.tolist()
    assert torch.equal(first.train.images, shape(train_size=10).train.images)
    assert rows(first.train) != rows(other.train)
    assert len(rows(first.train)) == 10


def test_labels_go_with_their_images(shape, members):
    data, values = shape(train_size=15, prior_size=9), members()
    label = {i.tobytes(): int(k) for i, k in zip(values["train_images"], values["train_labels"][:, 0], strict=True)}
    assert data.prior is not None
    for split in (data.train, data.prior):
        assert [label[i.numpy().tobytes()] for i in split.images] == split.labels.tolist()


def test_chosen_images_keep_the_files_order(shape, members):
    place = {image.tobytes(): i for i, image in enumerate(members()["train_images"])}
    places = [place[image.numpy().tobytes()] for image in shape(train_size=15).train.images]
    assert places == sorted(places)


def test_a_larger_subset_holds_the_smaller_one(shape):
    assert rows(shape(train_size=5).train) < rows(shape(train_size=20).train)
    assert rows(shape(test_size=3).test) < rows(shape(test_size=8).test)


@pytest.mark.parametrize("train_size", [None, 1, 28])
def test_the_prior_shares_no_image_with_training(shape, train_size):
    data = shape(train_size=train_size, prior_size=12)
    assert data.prior is not None
    assert len(data.prior) == 12
    assert len(data.train) == (train_size or 28)
    assert not rows(data.prior) & rows(data.train)
    assert rows(data.prior) == rows(shape(prior_size=12).prior), "whatever the training size"


def test_the_prior_takes_test_images_that_are_left_where_training_leaves_too_few(shape, members):
    data = shape(train_size=30, test_size=3, prior_size=14)
    assert data.prior is not None
    assert len(data.prior) == 14
    assert not rows(data.prior) & (rows(data.train) | rows(data.test))
    assert rows(data.prior) > rows(shape(prior_size=10).prior), "those of training first"
    assert (data.prior_of_test, shape(prior_size=10).prior_of_test) == (4, 0)
    assert rows(data.test) == rows(shape(test_size=3).test)


def test_classes_are_those_of_the_whole_dataset(shape):
    assert shape(train_size=1).domain.classes == 4


def test_the_prior_is_shaped_like_the_rest_and_moves_along(shape):
    data = shape(prior_size=6, resize=8, channels="rgb")
    assert data.prior is not None
    assert data.prior.images.shape == (6, 3, 8, 8)
    moved = data.to(torch.device("meta"))
    assert moved.prior is not None
    assert {s.images.device.type for s in (moved.train, moved.test, moved.prior)} == {"meta"}
    assert moved.domain == data.domain


@pytest.mark.parametrize("fields", [{}, {"channels": "rgb"}, {"train_size": 9, "resize": 11}])
def test_normalised_training_inputs_have_mean_zero_and_deviation_one(shape, fields):
    data = shape(normalize=True, **fields)
    inputs = data.domain.inputs(data.train.pixels().double())
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(data.domain.shape[0]).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(data.domain.shape[0]).double())


def test_without_normalisation_inputs_are_pixels(shape):
    data = shape(channels="rgb")
    assert (data.domain.mean, data.domain.std) == ((0.0,) * 3, (1.0,) * 3)
    assert torch.equal(data.domain.inputs(data.test.pixels()), data.test.pixels())


def test_several_labels_an_image(plain, members):
    values = members()
    for split in ("train", "test"):
        values[f"{split}_labels"] = (values[f"{split}_labels"] == [[0, 1, 2]]).astype("uint8")
    data = Shaping(**plain).shape("chest", validated(values, "chest"), Rng(0))
    assert data.multilabel
    assert data.train.labels.shape == (40, 3)
    assert data.domain.classes == 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"train_size": 41}, "train_size=41 and dataset.prior_size=0 do not fit into 40 training images; take"),
        ({"train_size": 30, "prior_size": 11}, "train_size=30 and dataset.prior_size=11 do not fit into 40"),
        ({"prior_size": 40}, "train_size=null and dataset.prior_size=40 do not fit into 40"),
        ({"test_size": 13}, "test_size=13 is more than the 12 test images; take dataset.test_size=12 or null"),
    ],
)
def test_more_images_than_there_are(shape, fields, says):
    with pytest.raises(UserError, match=f"^dataset=tiny: dataset.{says}"):
        shape(**fields)


@pytest.mark.parametrize(
    "fields", [{"train_size": 0}, {"prior_size": -1}, {"resize": 0}, {"channels": "gray"}, {"colour": "rgb"}]
)
def test_values_out_of_bounds_never_get_in(plain, fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        Shaping(**{**plain, **fields})


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ({"prior_size": 400}, {"prior_size": 20}),
        ({"train_size": 30, "prior_size": 20}, {"train_size": 20}),
        ({"train_size": 30, "prior_size": 20}, {"prior_size": 10}),
        ({"train_size": 50}, {"train_size": 40}),
        ({"train_size": 40, "prior_size": 3}, {"train_size": 37}),
        ({"train_size": 41, "prior_size": 400}, {"train_size": 20, "prior_size": 20}),
        ({"train_size": 38, "test_size": 10, "prior_size": 5}, {"prior_size": 4}),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(shape, asked, remedy):
    with pytest.raises(UserError) as refused:
        shape(**asked)
    for key, value in remedy.items():
        assert f"dataset.{key}={value}" in str(refused.value).partition("; take ")[2]
    data = shape(**{**asked, **remedy})
    assert len(data.train) >= 1
