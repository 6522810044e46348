"""A defence that trains in stages, among others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import Bench, central
from torch import nn

from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.interface.training import Training

SCHEDULE = Schedule(examples=20, batch_size=8, steps=6, rounds=2, clients=1, participation=1.0)


class Twice(Defense):
    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        return fit(replace(training, start=fit(training), rngs=[rng.child("again")]))


class Halved(Defense):
    """Ends with weights that no stage had."""

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        return {name: w / 2 for name, w in fit(training).items()}


class Three(Defense):
    """Ends with the mean of three networks from one start, trained together."""

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        start = {name: w.expand(3, *w.shape[1:]) for name, w in training.start.items()}
        data = replace(training.data, index=[*training.data.index] * 3)
        rngs = [rng.child("network", k) for k in range(3)]
        many = fit(replace(training, start=start, data=data, rngs=rngs))
        return {name: w.mean(0, keepdim=True) for name, w in many.items()}


class Private(Defense):
    def spent(self, schedule: Schedule) -> dict[str, float]:
        return {"epsilon": 1.0}


class Top(Defense):
    """Answers with the most probable class in place of the probabilities."""

    def predictions(self, probabilities: torch.Tensor, rng: Rng) -> torch.Tensor:
        return probabilities.argmax(1)


def trained(data: Data, model: Any, **defenses: Defense) -> Any:
    return central(epochs=2).train(data, model, Stack(defenses), Rng(0), Bench())


def test_only_one_trains_in_stages() -> None:
    with pytest.raises(UserError, match=r"defense=\[a,b\]: a and b each train in stages of their own; leave one out"):
        Stack({"a": Twice(), "b": Halved()}).bind(SCHEDULE)
    with pytest.raises(UserError, match="a uses the examples more often than b accounts for"):
        Stack({"a": Twice(), "b": Private()}).bind(SCHEDULE)
    Stack({"a": Twice(), "b": Defense()}).bind(SCHEDULE)


def test_answers_of_another_shape_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"^defense=top: its predictions returns torch\.int64 \[2\]; let it return torc"
    ):
        Stack({"top": Top()}).predictions(torch.ones(2, 3), Rng(0))


def test_it_trains_whatever_stands_beside_it(data: Data, lenet: Any) -> None:
    class Frozen(Defense):
        def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
            return {name: 0 * g for name, g in grad.items()}

    alone, beside = trained(data, lenet, a=Twice()), trained(data, lenet, b=Defense(), a=Twice())
    assert all(torch.equal(w, beside.snapshots[2][n]) for n, w in alone.snapshots[2].items())
    assert [row["round"] for row in alone.curve] == [1, 2, 3, 4]
    still = trained(data, lenet, a=Twice(), b=Frozen())  # the other acts in every stage
    assert all(torch.equal(w, still.snapshots[2][n]) for n, w in still.snapshots[0].items())


def test_accuracies_are_those_of_what_it_ends_with(data: Data, lenet: Any) -> None:
    plain, halved = trained(data, lenet), trained(data, lenet, a=Halved())
    assert all(torch.equal(w / 2, halved.snapshots[2][n]) for n, w in plain.snapshots[2].items())
    assert [row["round"] for row in halved.curve] == [1, 2]
    assert halved.utility["train_accuracy"] == halved.curve[-1]["train_accuracy"]


def test_a_stage_may_train_several_networks(data: Data, lenet: Any) -> None:
    system = trained(data, lenet, a=Three())
    assert {name: w.shape for name, w in system.snapshots[2].items()} == {
        name: w.shape for name, w in system.snapshots[0].items()
    }
    assert 0 <= system.utility["test_accuracy"] <= 1
