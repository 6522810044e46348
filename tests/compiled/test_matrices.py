"""Both products of a matrix that is read once, in C: what PyTorch gives, and of each victim by itself."""

import pytest
import torch

from privsweep.compiled.library import compiled
from privsweep.compiled.matrices import both_products
from privsweep.gradient_inversion.engine.low_rank import low_rank_or_whole

pytestmark = pytest.mark.skipif(
    both_products(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1)) is None, reason="no C compiler"
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1, 1), (5, 8, 16), (4, 23, 301), (2, 7, 3), (3, 1024, 40)])
@pytest.mark.parametrize("threads", [1, 3])
def test_both_products_are_those_of_pytorch(dtype: torch.dtype, size: tuple[int, int, int], threads: int) -> None:
    victims, rows, columns = size
    torch.manual_seed(0)
    matrices = torch.randn(size, dtype=dtype)
    a, d = torch.randn(victims, columns, dtype=dtype), torch.randn(victims, rows, dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = both_products(matrices, a, d)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    expected = (matrices @ a[..., None]).squeeze(2), (d[:, None] @ matrices).squeeze(1)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=50 * torch.finfo(dtype).eps * (rows + columns) ** 0.5)


def test_a_victims_products_depend_on_nobody_to_the_last_bit() -> None:
    torch.manual_seed(0)
    matrices, a, d = torch.randn(9, 77, 203), torch.randn(9, 203), torch.randn(9, 77)
    together, alone = both_products(matrices, a, d), both_products(matrices[4:5], a[4:5], d[4:5])
    assert together
    assert alone
    assert all(torch.equal(t[4:5], one) for t, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("images", [1, 3])
def test_a_captured_gradient_of_full_rank_is_multiplied_with_alike(images: int) -> None:
    torch.manual_seed(0)
    gradient, a, d = torch.randn(4, 60, 90), torch.randn(4, images, 90), torch.randn(4, images, 60)
    captured = low_rank_or_whole(gradient, images)
    ours = captured.products(a.double(), d.double())
    with compiled(False):
        theirs = captured.products(a.double(), d.double())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float64
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=0, atol=1e-4)


def test_other_matrices_are_pytorchs() -> None:
    matrices = torch.randn(2, 30, 20).mT
    assert both_products(matrices, torch.randn(2, 30), torch.randn(2, 20)) is None
