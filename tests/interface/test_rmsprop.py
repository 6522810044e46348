"""RMSProp's steps."""

import copy
import math

import pytest
import torch

from privsweep.interface.training import Optimizer


def walk(gradients: list[float], start: float = 1.0, weight_decay: float = 0.0) -> list[float]:
    """Where a parameter stands after every step."""
    w = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimiser = Optimizer("rmsprop", lr=0.01, momentum=0.9, weight_decay=weight_decay).make([w])
    places = []
    for gradient in gradients:
        w.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        places.append(w.item())
    return places


def test_two_steps_by_hand():
    first = 1 - 0.01 * 2 / math.sqrt(0.1 * 4 + 1e-8)
    second = first + 0.01 * 1 / math.sqrt(0.9 * 0.4 + 0.1 * 1 + 1e-8)
    assert walk([2.0, -1.0]) == pytest.approx([first, second], rel=1e-14)


def test_the_small_number_under_the_root_holds_tiny_gradients_back():
    """PyTorch's own would step by a hundredth of 3.16 here; a gradient of 1e-6 is hardly any."""
    assert 1 - walk([1e-6])[0] == pytest.approx(0.01 * 1e-6 / math.sqrt(1e-13 + 1e-8), rel=1e-9)


def test_weight_decay_is_a_penalty():
    assert walk([0.5], weight_decay=0.1) == walk([0.6])


def test_the_rate_can_change_between_steps_and_the_state_be_stored():
    w = torch.ones(3, requires_grad=True)
    optimiser = Optimizer("rmsprop", lr=0.01, momentum=0.0).make([w])
    w.grad = torch.tensor([1.0, 2.0, 3.0])
    optimiser.step()
    twin = w.detach().clone().requires_grad_()
    again = Optimizer("rmsprop", lr=1.0, momentum=0.0).make([twin])
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    twin.grad = w.grad
    for one in (optimiser, again):
        one.param_groups[0]["lr"] = 0.5
        one.step()
    assert torch.equal(w, twin)
    assert w.max() < 0.6


def test_a_parameter_without_a_gradient_stays():
    w, v = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    w.grad = torch.ones(1)
    Optimizer("rmsprop", lr=0.01, momentum=0.0).make([w, v]).step()
    assert (w.item() < 1, v.item()) == (True, 1)
