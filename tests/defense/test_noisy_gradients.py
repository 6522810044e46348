import pytest
import torch

from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.stack import Stack
from privsweep.interface.randomness import Rng

GRAD = {"a": torch.zeros(300, 300), "b": torch.zeros(40_000)}


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_sigma_is_the_standard_deviation(distribution: str) -> None:
    noisy = NoisyGradients(sigma=0.1, distribution=distribution).gradient(GRAD, 1, Rng(0))  # type: ignore[arg-type]
    for noise in noisy.values():
        assert noise.std().item() == pytest.approx(0.1, rel=0.03)
        assert abs(noise.mean().item()) < 0.002
    kurtosis = (noisy["a"] / 0.1).pow(4).mean().item()
    assert kurtosis == pytest.approx(3.0 if distribution == "gaussian" else 6.0, rel=0.1)


def test_parameters_have_noise_of_their_own_and_the_gradient_is_left_alone() -> None:
    noisy = NoisyGradients(sigma=1.0, distribution="gaussian").gradient(GRAD, 1, Rng(0))
    assert not torch.equal(noisy["a"].flatten()[:40_000], noisy["b"])
    assert not GRAD["a"].any()


def test_a_stack_folds_in_order_and_draws_by_name() -> None:
    """Two of the same kind add their variances; each draws from a stream of its own."""
    one = NoisyGradients(sigma=1.0, distribution="gaussian")
    both = Stack({"first": one, "second": one})
    noise = both.gradient(GRAD, 1, Rng(0))["a"]
    assert noise.std().item() == pytest.approx(2**0.5, rel=0.03)
    assert both.acts_at() == {"gradient"}
    assert Stack({}).gradient(GRAD, 1, Rng(0)) is GRAD
