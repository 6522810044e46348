"""Training a reconstructor, and going on with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from informed_world import pictures
from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.training import Optimizer
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store
from privsweep.weight_inversion.reconstructors import mlp
from privsweep.weight_inversion.shadow_weights import ShadowWeights
from privsweep.weight_inversion.standardisation import fit_standardisation
from privsweep.weight_inversion.training import Course, train_reconstructor

CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for the end of a process."""


class Interrupted(Workbench):
    """A bench whose process ends after some slices."""

    left = 2

    def stream(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors], reduce, start):  # type: ignore[no-untyped-def]
        def limited(part: slice) -> Tensors:
            self.left -= 1
            if self.left < 0:
                raise KilledError
            return make(part)

        return super().stream(purpose, key, n, size, limited, reduce, start)


def train(
    bench: Workbench, *, side: int = 24, usable: Tensor | None = None, **changes: object
) -> tuple[nn.Module, Tensor]:
    records = pictures(30, "shadows", side=side)
    weights = records.pixels().flatten(1) @ Rng(1).normal(side * side, 6)
    shadows = ShadowWeights(weights, records)
    if usable is None:
        usable = torch.ones(30, dtype=torch.bool)
    standardise, _ = fit_standardisation(weights[usable], CPU, 3.0)
    with seeded(Rng(0)):
        net = mlp(6, (1, side, side), 8, 1)
    values = {
        "rule": Optimizer("adam", 1e-2, 0.0), "epochs": 4, "batch_size": 15,
        "perceptual": lambda ours, theirs: ours.new_zeros(()), "perceptual_weight": 1.0, "adversarial": 0.0,
        "discriminator_width": 8,
    }  # fmt: skip
    course = Course(**{**values, **changes})  # type: ignore[arg-type]
    return net, train_reconstructor(net, shadows, usable, standardise, course, Rng(2), bench, "target")


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("adversarial", [0.0, 0.01])
def test_a_killed_training_goes_on_to_the_same_end(optimizer: str, adversarial: float, tmp_path: Path) -> None:
    changes = {"rule": Optimizer(optimizer, 1e-2, 0.0), "adversarial": adversarial}  # type: ignore[arg-type]
    whole, errors = train(Workbench(CPU, Store(tmp_path / "one"), "a"), **changes)
    with pytest.raises(KilledError):
        train(Interrupted(CPU, Store(tmp_path / "two"), "a"), **changes)
    again, later = train(Workbench(CPU, Store(tmp_path / "two"), "a"), **changes)
    assert torch.equal(errors, later)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert (errors.diff() < 0).all()


def test_shadows_that_are_not_usable_are_not_learnt_from(tmp_path: Path) -> None:
    usable = torch.arange(30) < 20
    _, errors = train(Workbench(CPU, Store(tmp_path), "a"), usable=usable, epochs=1)
    _, all_of_them = train(Workbench(CPU, Store(tmp_path), "b"), epochs=1)
    assert not torch.equal(errors, all_of_them)


def test_every_term_has_a_part_in_the_gradient(tmp_path: Path) -> None:
    plain, _ = train(Workbench(CPU, Store(tmp_path), "a"), epochs=1)
    for n, term in enumerate([{"perceptual": lambda ours, theirs: (ours - 1).square().mean()}, {"adversarial": 1.0}]):
        other, _ = train(Workbench(CPU, Store(tmp_path), f"{n}"), epochs=1, **term)
        assert not torch.equal(plain[0].weight, other[0].weight)
