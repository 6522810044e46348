from typing import Any

import pytest
import torch
from torch import Tensor

from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.interface.randomness import Rng

GRAD = {"small": torch.linspace(-0.1, 0.1, 30).view(5, 6), "large": torch.linspace(1, 3, 70) * torch.tensor(-1.0)}


def pruned(grad: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    fields = {"fraction": 0.1, "keep": "rest", "scope": "global"} | changes
    return dict(GradientPruning(**fields).gradient(grad, 1, Rng(0)))


def zeros(grad: dict[str, Tensor]) -> dict[str, int]:
    return {name: int((g == 0).sum()) for name, g in grad.items()}


@pytest.mark.parametrize(
    ("keep", "scope", "fraction", "expected"),
    [
        ("rest", "global", 0.1, {"small": 10, "large": 0}),
        ("rest", "global", 0.5, {"small": 30, "large": 20}),
        ("rest", "tensor", 0.1, {"small": 3, "large": 7}),
        ("rest", "tensor", 0.29, {"small": 9, "large": 20}),
        ("rest", "global", 1.0, {"small": 30, "large": 70}),
        ("largest", "global", 0.1, {"small": 30, "large": 60}),
        ("largest", "tensor", 0.1, {"small": 27, "large": 63}),
        ("largest", "tensor", 0.0, {"small": 30, "large": 70}),
    ],
)
def test_exactly_the_share_is_pruned(keep: str, scope: str, fraction: float, expected: dict[str, int]) -> None:
    assert zeros(pruned(GRAD, keep=keep, scope=scope, fraction=fraction)) == expected


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("keep", ["rest", "largest"])
def test_the_smallest_go_and_the_others_are_left_as_they_are(keep: str, scope: str) -> None:
    grad = {"a": Rng(0).normal(13, 7), "b": Rng(1).normal(200) * 0.3}
    out = pruned(grad, fraction=0.3, keep=keep, scope=scope)
    joined = [grad] if scope == "global" else [{n: g} for n, g in grad.items()]
    for group in joined:
        before = torch.cat([g.flatten() for g in group.values()])
        after = torch.cat([out[n].flatten() for n in group])
        kept = after != 0
        assert torch.equal(after[kept], before[kept])
        assert before[~kept].abs().max() < before[kept].abs().min()
    assert {n: g.shape for n, g in out.items()} == {n: g.shape for n, g in grad.items()}


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_equal_magnitudes_are_counted_exactly_and_the_earlier_ones_go(scope: str) -> None:
    grad = {"w": torch.tensor([2.0, -1.0, 1.0, 1.0, -1.0, 0.5, 1.0, 3.0])}
    out = pruned(grad, fraction=0.5, scope=scope)["w"]
    assert out.tolist() == [2.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 3.0]
    constant = {"a": torch.ones(3, 3), "b": torch.ones(11)}
    assert sum(zeros(pruned(constant, fraction=0.25, scope="global")).values()) == 5


def test_entries_that_are_zero_anyway_count_as_pruned() -> None:
    """Under ReLU most of a gradient is zero, and pruning a tenth then changes nothing."""
    grad = {"w": torch.cat((torch.zeros(50), torch.arange(1.0, 51)))}
    assert torch.equal(pruned(grad)["w"], grad["w"])


@pytest.mark.parametrize(("keep", "fraction"), [("rest", 0.0), ("largest", 1.0)])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_strength_zero_is_no_defence(keep: str, fraction: float, scope: str) -> None:
    out = pruned(GRAD, keep=keep, fraction=fraction, scope=scope)
    assert all(torch.equal(out[n], g) for n, g in GRAD.items())


def test_the_two_readings_meet_and_the_gradient_is_left_alone() -> None:
    kept = {n: g.clone() for n, g in GRAD.items()}
    a, b = pruned(GRAD, fraction=0.9), pruned(GRAD, fraction=0.1, keep="largest")
    assert all(torch.equal(a[n], b[n]) for n in GRAD)
    assert all(torch.equal(GRAD[n], g) for n, g in kept.items())


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("not_largest", [0.0, -1.0, 0.5, 2.0, 0.0]),
        ("not_lowest", [0.0, 0.0, 0.5, 2.0, 3.0]),
    ],
)
def test_a_slip_prunes_the_largest_or_the_most_negative(keep: str, expected: list[float]) -> None:
    grad = {"w": torch.tensor([-4.0, -1.0, 0.5, 2.0, 3.0])}
    assert pruned(grad, fraction=0.4, keep=keep)["w"].tolist() == expected
    assert pruned(grad, fraction=0.0, keep=keep)["w"].tolist() == grad["w"].tolist()
