"""A training step's convolutions of few channels, beside PyTorch's."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from privsweep.compiled.convolution import VictimConvolution, compiled_for
from privsweep.compiled.library import compiled
from privsweep.compiled.narrow import FEW_CHANNELS, narrow_convolutions
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.training.local import gradient

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not compiled_for(CPU, torch.float64), reason="no C compiler")
# inputs, outputs, kernel, stride, padding
LAYERS = {
    "first": (3, 12, 5, 2, 2),
    "narrow": (12, 12, 5, 1, 2),
    "to_wide": (8, 40, 3, 2, 1),
    "from_wide": (40, 8, 3, 1, 0),
    "uneven": (7, 5, (2, 4), (3, 1), (0, 2)),
    "one": (1, 1, 3, 1, 1),
}


def both(layer: nn.Conv2d, x: Tensor) -> list[tuple[Tensor, ...]]:
    """Outputs and gradients of whatever requires them, by us and by PyTorch."""
    leaves = [leaf for leaf in (x, *layer.parameters()) if leaf.requires_grad]
    found = []
    for wanted in (True, False):
        with compiled(wanted), narrow_convolutions(CPU):
            out = layer(x)
        d = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
        found.append((out.detach(), *torch.autograd.grad(out, leaves, d)))
    return found


def is_ours(layer: nn.Conv2d, x: Tensor) -> bool:
    with narrow_convolutions(CPU):
        return type(layer(x).grad_fn).__name__ == "_ConvolutionBackward"


@pytest.mark.parametrize("batch", [8, 32, 50])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_pytorchs(name: str, bias: bool, batch: int) -> None:
    inputs, outputs, *window = LAYERS[name]
    layer = nn.Conv2d(inputs, outputs, *window, bias=bias).double()
    x = torch.randn(batch, inputs, 9, 8, dtype=torch.float64, requires_grad=True)
    assert is_ours(layer, x)
    for ours, theirs in zip(*both(layer, x), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_that_nobody_differentiates_are_pytorchs(name: str) -> None:
    inputs, outputs, *window = LAYERS[name]
    layer = nn.Conv2d(inputs, outputs, *window).double()
    x = torch.randn(50, inputs, 9, 8, dtype=torch.float64)
    with torch.no_grad(), compiled(True) as used, narrow_convolutions(CPU):
        ours = layer(x)
        assert used.asked == (outputs < FEW_CHANNELS)
    torch.testing.assert_close(ours, layer(x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("images", [True, False])
def test_what_is_frozen_has_no_gradient(images: bool) -> None:
    layer = nn.Conv2d(6, 6, 3).double()
    layer.weight.requires_grad_(False)
    x = torch.randn(16, 6, 8, 8, dtype=torch.float64, requires_grad=images)
    for ours, theirs in zip(*both(layer, x), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_images_may_lie_pixel_by_pixel() -> None:
    layer = nn.Conv2d(6, 6, 3).double()
    x = torch.randn(16, 6, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    for ours, theirs in zip(*both(layer, x), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_other_convolutions_are_left_to_pytorch() -> None:
    x = torch.randn(16, 6, 8, 8, requires_grad=True)
    assert is_ours(nn.Conv2d(6, 6, 3), x)
    assert not is_ours(nn.Conv2d(6, 6, 3), x[:4]), "too few images"
    for further in ({"groups": 2}, {"dilation": 2}, {"padding": "same"}):
        assert not is_ours(nn.Conv2d(6, 6, 3, **further), x), further
    assert not is_ours(nn.Conv2d(32, 32, 3), torch.randn(16, 32, 8, 8, requires_grad=True)), "many channels"
    assert not is_ours(nn.Conv2d(3, 32, 3), torch.randn(16, 3, 8, 8)), "the gradient of narrow images is not needed"
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_ours(nn.Conv2d(6, 6, 3), x), "products are rounded"
    with torch.no_grad():
        assert not is_ours(nn.Conv2d(6, 6, 3), x), "nothing is trained"


# What is given beside the images [16, 3, 8, 8].
UNSOUND = {
    "of too few channels": (torch.ones(4, 1, 3, 3),),
    "of too many channels": (torch.ones(4, 5, 3, 3),),
    "a longer bias": (torch.ones(4, 3, 3, 3), torch.ones(7)),
    "a bias of another type": (torch.ones(4, 3, 3, 3), torch.ones(4).double()),
    "a window beyond the image": (torch.ones(4, 3, 9, 9),),
    "no stride": (torch.ones(4, 3, 3, 3), None, 0),
    "negative padding": (torch.ones(4, 3, 3, 3), None, 1, -1),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_pytorch_refuses_is_refused(name: str) -> None:
    with narrow_convolutions(CPU), pytest.raises(RuntimeError):
        conv2d(torch.ones(16, 3, 8, 8), *UNSOUND[name])


def test_biases_and_windows_may_be_given_otherwise() -> None:
    x, weight, bias = torch.randn(16, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(4, 2)[:, 0]
    with narrow_convolutions(CPU):
        ours = conv2d(x, weight, bias, [2], (1,))
    torch.testing.assert_close(ours, conv2d(x, weight, bias, [2], (1,)), rtol=1e-4, atol=1e-5)


def test_to_differentiate_twice_is_refused() -> None:
    layer, x = nn.Conv2d(6, 6, 3), torch.randn(16, 6, 8, 8, requires_grad=True)
    with narrow_convolutions(CPU):
        out = layer(x).square().sum()
    [first] = torch.autograd.grad(out, [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_training_steps_gradient_is_pytorchs_and_always_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 5, 2, 2), nn.Sigmoid(), nn.Conv2d(12, 12, 5, 1, 2), nn.Flatten(), nn.LazyLinear(10)
    )
    x, y = torch.rand(50, 3, 16, 16), torch.arange(50) % 10
    net(x)

    def step(wanted: bool) -> list[Tensor]:
        with compiled(wanted):
            grads, loss = gradient(copy.deepcopy(net), cross_entropy, x, y, Defense(), Rng(0), unseen=True)
        return [loss, *grads.values()]

    ours, again, theirs = step(True), step(True), step(False)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_gradients_by_weights_may_be_left_out_and_asked_for_image_by_image() -> None:
    layer, x = nn.Conv2d(6, 6, 3).double(), torch.randn(16, 6, 8, 8, dtype=torch.float64, requires_grad=True)
    with narrow_convolutions(CPU, by_weights=False):
        out = layer(x)
    d = torch.randn_like(out)
    by_images, by_weight = torch.autograd.grad(out, [x, layer.weight], d, allow_unused=True)
    assert by_weight is None
    expected, _ = torch.autograd.grad(layer(x), [x, layer.weight], d)
    assert torch.allclose(by_images, expected, rtol=0, atol=1e-12)
    of = VictimConvolution(16, 1, x.shape[1:], layer.weight.shape, (1, 1), (0, 0))
    each = torch.stack([torch.autograd.grad(layer(x[i, None]), [layer.weight], d[i, None])[0] for i in range(16)])
    assert torch.allclose(of.by_own_weight(x.detach(), d), each.flatten(2), rtol=0, atol=1e-12)
