import pytest
import torch
from tiny import digits_of

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

ODD = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def digits(superclasses: list[list[int]], canaries: int = 0) -> Data:
    return digits_of(
        train_size=100, test_size=20, prior_size=10, canaries=canaries, superclasses=superclasses, normalize=True
    ).load(Rng(0))


def test_labels_are_the_groups_and_the_classes_are_kept_beside_them() -> None:
    plain, data = digits([]), digits(ODD)
    assert plain.kinds is None
    assert data.kinds is not None
    assert data.domain.classes == 2
    assert plain.prior is not None
    assert data.prior is not None
    for before, after in ((plain.train, data.train), (plain.test, data.test), (plain.prior, data.prior)):
        assert torch.equal(after.images, before.images)
        assert torch.equal(after.labels, before.labels % 2)
    assert torch.equal(data.kinds.train, plain.train.labels)
    assert torch.equal(data.kinds.prior, plain.prior.labels)
    assert data.kinds.superclass == (0, 1) * 5


def test_canaries_get_a_wrong_superclass() -> None:
    data = digits(ODD, canaries=20)
    assert data.canaries is not None
    assert data.kinds is None
    assert torch.cat([data.train.labels, data.canaries.outside.labels]).unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], "a model tells two apart or more"),
        ([*ODD, []], "one of them holds no class"),
        ([[0, 2, 4, 6, 8, 10], ODD[1]], "has no class 10; its classes are numbered 0 to 9"),
        ([[0, 2, 4, 6, 8, 1], ODD[1]], "class 1 stands there twice"),
        ([[0, 2, 4, 6], ODD[1]], "class 8 is in none of them"),
    ],
)
def test_every_class_is_in_one_group(groups: list[list[int]], line: str) -> None:
    with pytest.raises(UserError, match=rf"^dataset.superclasses=\[\[[^\n]*{line}[^\n]*$"):
        digits(groups)
