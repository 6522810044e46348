"""Whether replicas are stacked, and how many."""

import torch
from torch import nn

from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.training.stacked import most_together, numbers_of, stackable


class OnGpu(torch.Tensor):
    """An example that says it lies on a GPU."""

    device = torch.device("cuda")  # type: ignore[assignment]


def perceptron(width: int) -> MLP:
    return MLP(width=width, depth=2, activation="relu", dropout=0.2, init="default", init_bound=0.5)


def convnet(norm: str) -> ConvNet:
    return ConvNet(
        width=4, layers=[1], depth=2, kernel=3, pool_after=[1], pooling="max", norm=norm, fc=[], fc_width=None,
        padding="same", activation="relu", init="default", init_bound=0.5,
    )  # type: ignore[arg-type]  # fmt: skip


def most(data: Data, architecture: MLP | ConvNet, memory: float | None, gpu: bool = False) -> int:
    x = data.domain.blank(1)
    x = x.as_subclass(OnGpu) if gpu else x
    return most_together(architecture.build(data.domain, Rng(0)), x, 8, Defense(), "auto", memory)


def test_stacks_are_bounded_by_memory_and_only_where_they_win(data: Data) -> None:
    few, many = (most(data, perceptron(12), memory) for memory in (0.001, 0.01))
    assert 1 < few < many
    assert most(data, perceptron(2000), 4.0) == 1
    assert most(data, convnet("none"), 1.0) == 1 < most(data, convnet("none"), 1.0, gpu=True)
    assert most(data, convnet("batch"), 1.0, gpu=True) > 1


def test_stacking_is_as_asked_for(data: Data) -> None:
    net, x = convnet("none").build(data.domain, Rng(0)), data.domain.blank(1)
    assert most_together(net, x, 8, Defense(), "stacked", None) > 1000
    assert most_together(net, x.as_subclass(OnGpu), 8, Defense(), "sequential", None) == 1


def test_models_with_buffers_of_their_own_train_in_turn(data: Data) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

    net, x = convnet("none").build(data.domain, Rng(0)), data.domain.blank(1)
    net.append(Counting())
    assert most_together(net, x.as_subclass(OnGpu), 8, Defense(), "stacked", None) == 1
    assert stackable(nn.BatchNorm1d(2), Defense())


def test_clients_with_a_gradient_an_example_train_in_turn() -> None:
    class Clipping(Defense):
        def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
            return grads

    assert stackable(nn.Linear(2, 2), Defense())
    assert not stackable(nn.Linear(2, 2), Clipping())


def test_a_layer_may_put_out_several_tensors() -> None:
    lstm = nn.Sequential(nn.LSTM(3, 5, batch_first=True))
    assert numbers_of(lstm, torch.zeros(1, 2, 3)) == [2 * 3, 2 * 5 + 5 + 5]  # its outputs, and what it remembers
