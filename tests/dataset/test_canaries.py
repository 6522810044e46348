import pytest
import torch
from tiny import digits_of

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng


def digits(canaries: int, seed: int = 0, train_size: int = 100) -> Data:
    return digits_of(train_size=train_size, test_size=20, prior_size=10, canaries=canaries, normalize=True).load(
        Rng(seed)
    )


def test_half_of_the_canaries_are_trained_on_and_all_have_a_wrong_label() -> None:
    plain, data = digits(0), digits(41)
    assert plain.canaries is None
    assert data.canaries is not None
    assert (len(data.train), len(data.canaries.inside), len(data.canaries.outside)) == (79, 20, 21)
    label = {i.numpy().tobytes(): k for i, k in zip(plain.train.images, plain.train.labels.tolist(), strict=True)}

    def wrong(images: torch.Tensor, labels: torch.Tensor) -> list[bool]:
        return [label[i.numpy().tobytes()] != k for i, k in zip(images, labels.tolist(), strict=True)]

    inside = torch.isin(torch.arange(79), data.canaries.inside).tolist()
    assert wrong(data.train.images, data.train.labels) == inside
    assert all(wrong(data.canaries.outside.images, data.canaries.outside.labels))
    held, left = ({i.numpy().tobytes() for i in split.images} for split in (data.canaries.outside, data.train))
    assert not held & left
    assert held | left == set(label)
    assert torch.equal(data.test.images, plain.test.images)
    assert torch.equal(data.test.labels, plain.test.labels)


def test_which_are_trained_on_depends_on_the_seed_alone() -> None:
    first, again, other = digits(40), digits(40), digits(40, seed=1)
    assert first.canaries is not None
    assert again.canaries is not None
    assert other.canaries is not None
    assert torch.equal(first.canaries.inside, again.canaries.inside)
    assert torch.equal(first.canaries.outside.labels, again.canaries.outside.labels)
    assert not torch.equal(first.canaries.inside, other.canaries.inside)


def test_they_move_along_with_the_data() -> None:
    moved = digits(10).to(torch.device("meta"))
    assert moved.canaries is not None
    assert moved.canaries.outside.labels.is_meta


@pytest.mark.parametrize(
    ("count", "line"),
    [(1, "dataset.canaries=1: half of them"), (101, "canaries=101: dataset=digits has 100 .* take 100 or fewer")],
)
def test_too_few_or_too_many_are_refused(count: int, line: str) -> None:
    with pytest.raises(UserError, match=line):
        digits(count)
