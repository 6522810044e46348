"""Each victim's convolution with weights of its own, beside PyTorch's, one victim after the other."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from privsweep.compiled.convolution import Vector, VictimConvolution, _parts, compiled_for

CPU = torch.device("cpu")
DOUBLE = torch.float64
pytestmark = pytest.mark.skipif(not compiled_for(CPU, DOUBLE), reason="no C compiler")
# outputs, inputs, size, kernel, stride, padding
WINDOWS = {
    "as_in_lenet": (12, 3, (16, 16), (5, 5), (2, 2), (2, 2)),
    "one_pixel": (3, 2, (4, 5), (1, 1), (1, 1), (0, 0)),
    "more_filters_than_lanes": (37, 19, (7, 6), (3, 3), (1, 1), (1, 1)),
    "uneven": (5, 4, (9, 8), (2, 4), (3, 1), (0, 2)),
    "strides_beyond_the_kernel": (4, 3, (11, 10), (2, 2), (3, 4), (1, 0)),
    "pixels_that_no_window_sees": (4, 1, (8, 9), (3, 3), (3, 3), (0, 0)),
    "wide": (2, 1, (3, 70), (3, 7), (1, 2), (1, 3)),
}


class World:
    def __init__(self, window: str, victims: int, batch: int, dtype: torch.dtype = DOUBLE):
        outputs, inputs, size, kernel, self.stride, self.padding = WINDOWS[window]
        self.victims = victims
        shapes = ((inputs, *size), (outputs, inputs, *kernel))
        self.of = VictimConvolution(victims, batch, *shapes, self.stride, self.padding)
        torch.manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=dtype)

        self.a, self.t = drawn(victims * batch, inputs, *size), drawn(victims * batch, inputs, *size)
        self.shared = drawn(outputs, inputs, *kernel)
        entries = self.shared.numel()
        self.rows = drawn(victims, entries + outputs)  # weights and biases lie in one row, as the engine has them
        self.own = self.rows[:, :entries].unflatten(1, (outputs, -1))
        self.bias = self.rows[:, entries:]
        self.d, self.dt = drawn(*self.of.output), drawn(*self.of.output)

    def convolved(self, images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return conv2d(images, weight, bias, self.stride, self.padding)

    def each(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """A victim's images, output gradients, weight and bias."""
        weights = self.own.reshape(self.victims, *self.shared.shape)
        return list(zip(self.a.chunk(self.victims), self.d.chunk(self.victims), weights, self.bias, strict=True))

    def pulled_back(self, d: Tensor, images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
        return torch.autograd.grad(self.convolved(images, weight), (images, weight), d)


def close(found: Tensor, expected: Tensor, near: float = 1e-13) -> bool:
    return bool((found - expected).abs().max() <= near * expected.abs().max())


@pytest.mark.parametrize("victims", [1, 3, 8, 19])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("window", WINDOWS)
def test_all_of_it_is_what_pytorch_computes_victim_by_victim(window, batch, victims):
    world = World(window, victims, batch)
    own = torch.cat([world.convolved(a, w, b) for a, _, w, b in world.each()])
    assert close(
        world.of.forward((world.a, world.shared), bias=world.bias[0]),
        world.convolved(world.a, world.shared, world.bias[0]),
    )
    assert close(world.of.forward(None, (world.a, world.own), world.bias), own)
    both = world.of.forward((world.t, world.shared), (world.a, world.own), world.bias)
    assert close(both, own + world.convolved(world.t, world.shared))

    shared_back, _ = world.pulled_back(world.dt, world.a, world.shared)
    back = [world.pulled_back(d, a, w) for a, d, w, _ in world.each()]
    assert close(world.of.pull_back((world.dt, world.shared)), shared_back)
    found = world.of.pull_back((world.dt, world.shared), (world.d, world.own))
    assert close(found, shared_back + torch.cat([images for images, _ in back]))

    out = torch.zeros_like(world.rows)
    entries = world.shared.numel()
    place = out[:, :entries].unflatten(1, (len(world.shared), -1))
    world.of.residual(world.a, world.d, world.own, place)
    assert close(place, torch.stack([weight.flatten(1) for _, weight in back]) - world.own)
    assert not out[:, entries:].any(), "wrote beyond the weights"


@pytest.mark.parametrize("window", WINDOWS)
def test_a_victims_numbers_do_not_depend_on_who_else_is_there_to_the_last_bit(window):
    world = World(window, 19, 2, torch.float32)
    whole = world.of.forward((world.t, world.shared), (world.a, world.own), world.bias)
    back = world.of.pull_back((world.dt, world.shared), (world.d, world.own))
    residual = torch.empty_like(world.own)
    world.of.residual(world.a, world.d, world.own.contiguous(), residual)
    for rows in (slice(0, 1), slice(4, 7), slice(2, 19)):
        few = slice(2 * rows.start, 2 * rows.stop)
        sizes = (rows.stop - rows.start, 2, world.of.image, world.of.weight, world.stride, world.padding)
        own, part = world.own[rows].contiguous(), VictimConvolution(*sizes)
        found = part.forward((world.t[few], world.shared), (world.a[few], own), world.bias[rows])
        assert torch.equal(found, whole[few])
        assert torch.equal(part.pull_back((world.dt[few], world.shared), (world.d[few], own)), back[few])
        alone = torch.empty_like(own)
        part.residual(world.a[few], world.d[few], own, alone)
        assert torch.equal(alone, residual[rows])


def test_threads_share_the_victims_and_change_nothing(monkeypatch):
    world = World("as_in_lenet", 40, 1, torch.float32)
    alone = world.of.forward((world.t, world.shared), (world.a, world.own), world.bias)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(world.of.forward((world.t, world.shared), (world.a, world.own), world.bias), alone)


@pytest.mark.parametrize("victims", [1, 5, 16, 37])
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("cost", [0.9, 1.8, 5.0])
def test_every_victim_is_in_one_part(victims, threads, cost):
    parts = _parts(victims, 16, threads, Vector.CHANNELS, cost)
    assert [v for part in parts for v in range(part.first, part.last)] == list(range(victims))
    assert all(part.first % 16 == 0 for part in parts if part.vector is Vector.VICTIMS)


def test_images_that_lie_otherwise_are_read_as_they_are():
    world = World("uneven", 3, 2)
    expected = world.of.forward((world.t, world.shared))
    assert torch.equal(world.of.forward((world.t.to(memory_format=torch.channels_last), world.shared)), expected)
