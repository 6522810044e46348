"""Which images are attacked."""

import pytest
import torch
from tiny import Bench, capture, central

from privsweep.defense.stack import Stack
from privsweep.exposure.victims import Victims, others
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet

LABELS = torch.tensor([0] * 50 + [1] * 4 + [2] * 6)
SHARD = torch.arange(100, 160)
ALL = torch.cat([torch.zeros(100, dtype=torch.int64), LABELS])  # of the whole training split


def drawn(count: int, batch: int, choice: str, seed: int) -> torch.Tensor:
    return Victims(count, choice, None).draw(0, SHARD, ALL, batch, Rng(seed))  # type: ignore[arg-type]


def labels_of(chosen: torch.Tensor) -> list[int]:
    return LABELS[chosen.flatten() - 100].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_there_as_soon_as_there_are_as_many_images(seed: int) -> None:
    chosen = drawn(4, 3, "every_class", seed)
    assert chosen.shape == (4, 3)
    assert [sorted(labels_of(three)) for three in chosen] == [[0, 1, 2]] * 4
    assert len(chosen.unique()) == 12


def test_a_class_that_is_used_up_is_passed_over() -> None:
    everything = labels_of(drawn(60, 1, "every_class", 0))
    assert sorted(everything[:12]) == [0] * 4 + [1] * 4 + [2] * 4
    assert sorted(everything[12:16]) == [0, 0, 2, 2]
    assert everything[16:] == [0] * 44


@pytest.mark.parametrize("choice", ["random", "every_class"])
def test_the_first_images_stay_whatever_their_number_and_batch(choice: str) -> None:
    few = drawn(4, 1, choice, 3)
    more = drawn(3, 4, choice, 3)
    assert torch.equal(few.flatten(), more.flatten()[:4])
    assert not torch.equal(few, drawn(4, 1, choice, 4))


def test_a_seed_of_their_own_gives_the_same_victims_in_every_run_and_round(data: Data, lenet: ConvNet) -> None:
    def index(seed: int, round_: int, victim_seed: int | None) -> torch.Tensor:
        setting = central(epochs=1, victim_choice="every_class", victim_seed=victim_seed, capture=capture(round=round_))
        system = setting.train(data, lenet, Stack({}), Rng(seed), Bench())
        return setting.views()[0].expose(system, data, lenet, Stack({}), Rng(seed)).truth.index

    first = index(0, 0, 7)
    assert torch.equal(first, index(1, 1, 7))
    assert not torch.equal(first, index(0, 0, 8))
    assert not torch.equal(index(0, 0, None), index(1, 0, None))


def test_other_images_are_as_many_none_twice_and_none_of_the_victims_own() -> None:
    index = torch.arange(20).view(5, 4)
    found = others(index, 20, Rng(0))
    assert found is not None
    for own, other in zip(index, found, strict=True):
        assert len({*own.tolist(), *other.tolist()}) == 8
    assert others(index, 7, Rng(0)) is None
