import pytest
import torch

from privsweep.defense.gradient_quantization import GradientQuantization
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng

GRAD = {"w": Rng(0).normal(40, 50) * 0.01, "b": torch.linspace(-3, 2, 64)}


def quantised(grad: Tensors, bits: int) -> Tensors:
    return GradientQuantization(bits=bits).gradient(grad, 1, Rng(0))  # type: ignore[arg-type]


def test_32_bits_are_no_defence() -> None:
    assert quantised(GRAD, 32) is GRAD


def test_int8_rounds_to_whole_steps_of_each_parameters_own_size() -> None:
    for name, q in quantised(GRAD, 8).items():
        g = GRAD[name]
        step = g.abs().max() / 127
        assert (q - g).abs().max() <= step / 2 * 1.0001
        levels = q / step
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert len(q.unique()) <= 255
        assert torch.equal(q.abs().max(), g.abs().max())


def test_int8_is_symmetric_and_keeps_zero() -> None:
    negative = {name: -g for name, g in GRAD.items()}
    plus, minus = quantised(GRAD, 8), quantised(negative, 8)
    assert all(torch.equal(minus[name], -q) for name, q in plus.items())
    assert quantised({"w": torch.tensor([0.0, 1.0])}, 8)["w"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-38])
def test_a_vanishing_gradient_stays_finite(value: float) -> None:
    grad = {"w": torch.full((5,), value)}
    for bits in (8, 16):
        assert (quantised(grad, bits)["w"] - value).abs().max() <= 1e-38


def test_half_precision_keeps_eleven_bits() -> None:
    for name, q in quantised(GRAD, 16).items():
        g = GRAD[name]
        assert q.dtype == g.dtype
        assert ((q - g).abs() <= g.abs() * 2**-11 + 2**-25).all()
        assert not torch.equal(q, g)
    assert quantised({"w": torch.tensor([1e-8, 2.0**-24])}, 16)["w"].tolist() == [0.0, 2.0**-24]


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_twice_is_rounding_once_and_the_gradient_is_left_alone(bits: int) -> None:
    kept = {n: g.clone() for n, g in GRAD.items()}
    once = quantised(GRAD, bits)
    twice = quantised(once, bits)
    for name, g in kept.items():
        assert torch.allclose(once[name], twice[name], rtol=1e-6, atol=0)
        assert torch.equal(GRAD[name], g)
