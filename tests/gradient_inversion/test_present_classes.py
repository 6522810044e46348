"""Classes told by signs, of gradients of an output layer that are written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from privsweep.gradient_inversion.present_classes import PresentClasses, present_classes
from privsweep.interface.randomness import Rng

CLASSES, FEATURES = 10, 40
FEW, MOST = [2, 5], [0, 1, 2, 3, 4, 5, 6, 7]
SURE = torch.tensor([1e-1, 1e-2, 1e-3, 1e-4])  # softmax of what is not the label, over all classes


def told(occur: list[int], noise: float = 0.0, shift: float = 0.0, sent: bool = True) -> PresentClasses:
    """Of a batch of examples of those classes, with sparse features of their own, moved by ``shift``."""
    labels = torch.tensor(occur).repeat_interleave(len(SURE))
    wrong = SURE.repeat(len(occur))[:, None] * Rng(0).child("wrong").normal(len(labels), CLASSES).softmax(1)
    errors = wrong - one_hot(labels, CLASSES) * wrong.sum(1, keepdim=True)
    features = Rng(0).child("features").normal(len(labels), FEATURES).relu() + shift
    rows, bias = errors.mT @ features / len(labels), errors.mean(0)
    rows, bias = (t + noise * Rng(0).child(n).normal(*t.shape) for n, t in (("rows", rows), ("bias", bias)))
    return present_classes(rows[None] if sent else None, bias[None], torch.tensor(min(shift, 0.0)))


def classes(told: Tensor) -> list[int]:
    return told[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_of_a_few_classes_it_is_known_which_they_are(shift: float) -> None:
    found = told(FEW, shift=shift)
    assert classes(found.seen) == FEW
    assert classes(found.unseen) == [c for c in range(CLASSES) if c not in FEW]
    assert classes(found.lowest < 0) == FEW


def test_where_most_classes_are_seen_none_is_ruled_out() -> None:
    found = told(MOST)
    assert classes(found.seen) == MOST
    assert not found.unseen.any()


def test_noise_is_taken_for_no_class_and_rules_none_out() -> None:
    found = told(FEW, noise=1e-4)
    assert classes(found.seen) == FEW
    drowned = told(FEW, noise=1.0)
    assert not drowned.seen.any()
    assert not drowned.unseen.any()


def test_without_rows_the_bias_tells() -> None:
    found = told(FEW, sent=False)
    assert classes(found.seen) == FEW


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_gradient_that_tells_nothing_tells_of_no_class(value: float) -> None:
    found = present_classes(torch.full((1, 4, 3), value), torch.full((1, 4), value), torch.tensor(0.0))
    assert not (found.seen | found.unseen).any()
