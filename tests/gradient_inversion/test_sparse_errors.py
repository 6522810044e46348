"""Batches behind a dense layer's gradient, told apart by the zeros that ReLU leaves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.sparse_errors import inputs_by_sparsity
from privsweep.interface.randomness import Rng

Layer = tuple[Tensor, Tensor]


def gradients(
    batch: int, width: int = 256, act: type[nn.Module] = nn.ReLU, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Layer]:
    """Inputs ``[N, D]``, the gradients of the first layer's weight and bias, and that layer."""
    drawn = Rng(seed)
    net = nn.Sequential(nn.Linear(100, width), act(), nn.Linear(width, 50), nn.ReLU(), nn.Linear(50, 10))
    with torch.no_grad():
        for number, p in enumerate(net.parameters()):
            p.copy_(drawn.child(number).normal(*p.shape) / p.shape[-1] ** 0.5)
    x = drawn.child("inputs").normal(batch, 100)
    loss = nn.functional.cross_entropy(net(x), torch.arange(batch) % 10)
    weight, bias = torch.autograd.grad(loss, [net[0].weight, net[0].bias])
    return x, weight, bias, (net[0].weight.detach(), net[0].bias.detach())


def found(x: Tensor, answer: Tensor | None) -> Tensor:
    """How far from each input the nearest answer is."""
    assert answer is not None
    return torch.cdist(x, answer).amin(1)


@pytest.mark.parametrize("batch", [1, 2, 5, 10, 14])
def test_every_input_of_a_batch_comes_out_exactly(batch: int) -> None:
    x, *seen = gradients(batch)
    answer = inputs_by_sparsity(*seen, batch, Rng(1))
    assert answer is not None
    assert answer.shape == x.shape
    assert found(x, answer).max() < 0.05


def test_examples_that_were_scaled_apart_come_out_too() -> None:
    """As clipping scales them."""
    x, *_, layer = gradients(6)
    drawn = Rng(2)
    errors = torch.where(x @ layer[0].T + layer[1] > 0, drawn.normal(6, 256), 0) * torch.tensor(
        [[1.0], [0.1], [3.0], [0.01], [1.0], [0.5]]
    )
    assert found(x, inputs_by_sparsity(errors.T @ x, errors.sum(0), layer, 6, Rng(1))).max() < 0.05


def test_an_example_without_a_gradient_is_left_out() -> None:
    x, weight, bias, layer = gradients(4)
    answer = inputs_by_sparsity(weight, bias, layer, 6, Rng(1))
    assert answer is not None
    assert len(answer) == 4
    assert found(x, answer).max() < 0.05


def test_nothing_is_claimed_where_there_are_no_zeros_or_noise_hides_them() -> None:
    _, *seen = gradients(4, act=nn.Sigmoid)
    assert inputs_by_sparsity(*seen, 4, Rng(1)) is None
    _, weight, bias, layer = gradients(4)
    noise = 1e-3 * weight.std() * Rng(2).normal(*weight.shape)
    assert inputs_by_sparsity(weight + noise, bias, layer, 4, Rng(1)) is None
    assert inputs_by_sparsity(torch.zeros_like(weight), torch.zeros_like(bias), layer, 4, Rng(1)) is None
    assert inputs_by_sparsity(weight * torch.nan, bias, layer, 4, Rng(1)) is None


def test_more_examples_than_can_be_guessed_are_given_up_soon() -> None:
    _, *seen = gradients(40)
    assert inputs_by_sparsity(*seen, 40, Rng(1)) is None
