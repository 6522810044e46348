"""Noise and pruning in C: what PyTorch gives, wherever entries lie and however often they are the same."""

import pytest
import torch

from privsweep.compiled.entries import First, pruned, with_normal
from privsweep.compiled.library import compiled
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.interface.randomness import Rng

pytestmark = pytest.mark.skipif(with_normal([torch.zeros(1)], 1.0, lambda: 0) is None, reason="no C compiler")

MANY = 300_001  # more than are pruned without a sample
KINDS = {
    "spread": lambda n: torch.randn(n) * torch.rand(n) ** 4,
    "few values": lambda n: torch.randn(n).mul(2).round(),
    "half zeros": lambda n: torch.randn(n) * (torch.rand(n) > 0.5),
    "sorted": lambda n: torch.randn(n).sort().values,
    "constant": lambda n: torch.full((n,), -0.25),
    # all that matters lies where a sample hardly looks
    "one block": lambda n: torch.cat([torch.randn(n // 9) * 1e-3, torch.ones(n - n // 9)]),
    "tiny": lambda n: torch.randn(n) * 1e-42,
    "signed zeros": lambda n: torch.randint(-1, 2, (n,)) * torch.randint(0, 2, (n,)) * -1.0,
}


@pytest.mark.parametrize("lengths", [[1_000_003], [16], [15], [31, 8, 1, 640, 3, 17, 2, 7], [64] * 5])
@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**62 + 12345])
def test_noise_is_what_the_generator_draws(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.empty(n).normal_(0, 0.3, generator=generator) for n in lengths]
    base = [torch.linspace(-1, 1, n) for n in lengths]
    ours = with_normal(base, 0.3, lambda: seed)
    assert ours is not None
    for a, b, noise in zip(base, ours, drawn, strict=True):
        assert torch.allclose(b, a + noise, rtol=0, atol=1e-6)


def test_noise_has_the_distribution_that_it_should() -> None:
    (noise,) = with_normal([torch.zeros(4_000_000)], 2.0, lambda: 7) or [torch.zeros(1)]
    assert abs(noise.mean()) < 0.004
    assert abs(noise.std() - 2) < 0.004
    assert abs((noise.abs() < 2).float().mean() - 0.6827) < 0.001
    assert 8 < noise.abs().max() < 12
    assert noise.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", ["rest", "largest", "not_largest", "not_lowest"])
@pytest.mark.parametrize("n", [5, 1000, MANY])
def test_pruning_is_what_pytorch_gives(kind: str, keep: str, n: int) -> None:
    torch.manual_seed(n)
    whole = KINDS[kind](n)
    grad = {"a": whole[: n // 3].clone(), "b": whole[n // 3 :].clone().view(-1, 1)}
    for fraction in (0.01, 0.1, 0.5, 0.9, 1.0):
        rule = GradientPruning(fraction=fraction, keep=keep, scope="global")
        ours = rule.gradient(grad, 1, Rng(0))
        with compiled(False):
            theirs = rule.gradient(grad, 1, Rng(0))
        assert all(torch.equal(ours[name], theirs[name]) for name in grad)
        assert {name: g.shape for name, g in ours.items()} == {name: g.shape for name, g in grad.items()}


@pytest.mark.parametrize("keep", ["rest", "largest", "not_largest", "not_lowest"])
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000 - 2**32], ids=["plus", "minus"])
@pytest.mark.parametrize("n", [20, MANY])
def test_what_is_no_number_is_not_hidden(keep: str, bits: int, n: int) -> None:
    """A processor gives it either sign; as long as other entries are left these go, as many as are asked for."""
    whole = torch.randn(n, generator=torch.Generator().manual_seed(n))
    whole[::5] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    rule = GradientPruning(fraction=0.5, keep=keep, scope="global")
    ours = rule.gradient({"w": whole}, 1, Rng(0))["w"]
    with compiled(False):
        theirs = rule.gradient({"w": whole}, 1, Rng(0))["w"]
    assert torch.equal(ours.isnan(), whole.isnan())
    assert (ours == 0).sum() == (n - round(0.5 * n) if keep == "largest" else round(0.5 * n))
    assert torch.equal(ours.nan_to_num(99.0), theirs.nan_to_num(99.0))


def test_what_goes_in_stays_as_it_is() -> None:
    one = torch.randn(100)
    before = one.clone()
    assert with_normal([one], 1.0, lambda: 0) is not None
    assert pruned([one], 10, First.LOWEST) is not None
    assert torch.equal(one, before)


def test_in_double_precision_it_is_pytorch() -> None:
    grad = torch.randn(600, dtype=torch.float64)
    assert with_normal([grad], 1.0, lambda: 0) is None
    assert pruned([grad], 3, First.LOWEST) is None
    assert NoisyGradients(sigma=0.1, distribution="gaussian").gradient({"w": grad}, 1, Rng(3))["w"].dtype == grad.dtype


def test_with_the_code_declined_the_draws_are_the_same() -> None:
    rule = NoisyGradients(sigma=0.1, distribution="gaussian")
    grad = {"w": torch.randn(40, 30).mT, "b": torch.randn(7)}
    ours = rule.gradient(grad, 1, Rng(3))
    with compiled(False):
        theirs = rule.gradient(grad, 1, Rng(3))
    assert all(torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-6) for name in grad)
