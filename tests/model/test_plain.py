"""Layers that look like PyTorch's and compute something else: nobody may compute PyTorch's in their place."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.parametrize import register_parametrization

from privsweep.gradient_inversion.engine.distance import Squared
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.gradient_inversion.label_inference import not_sent
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.model.first_layer import first_linear
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.model.split_at import cut
from privsweep.training.clipped_sum import layers_with_parameters
from privsweep.training.full_batch import dense
from privsweep.training.stacked import stacked_forward


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=-0.1)


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def parametrised() -> nn.Module:
    return register_parametrization(nn.Linear(6, 5), "weight", Halved())


def hooked() -> nn.Linear:
    layer = nn.Linear(6, 5)
    layer.register_forward_hook(lambda _, given, out: 3 * out)
    return layer


def perceptron(first: nn.Module, act: nn.Module | None = None, then: nn.Module | None = None) -> nn.Sequential:
    act = act or nn.ReLU()
    return nn.Sequential(nn.Flatten(), first, act, nn.Linear(5, 5), then or nn.ReLU(), nn.Linear(5, 3))


def shared() -> nn.Sequential:
    act = nn.ReLU()
    return perceptron(nn.Linear(6, 5), act, act)


DISGUISED: dict[str, Callable[[], nn.Sequential]] = {
    "subclass": lambda: perceptron(Doubled(6, 5)),
    "activation": lambda: perceptron(nn.Linear(6, 5), Shifted()),
    "hook": lambda: perceptron(hooked()),
    "parametrised": lambda: perceptron(parametrised()),
    "stands in two places": shared,
}


@pytest.mark.parametrize("kind", DISGUISED)
def test_the_victims_own_image_has_the_captured_gradient(kind: str) -> None:
    torch.manual_seed(0)
    model, x, y = DISGUISED[kind](), torch.rand(2, 1, 1, 2, 3), torch.tensor([1, 2])
    named = dict(model.named_parameters())
    each = [torch.autograd.grad(cross_entropy(model(x[v]), y[v : v + 1]), list(named.values())) for v in (0, 1)]
    target = {name: torch.stack([grads[n] for grads in each]) for n, name in enumerate(named)}
    weights = {name: w.detach() for name, w in model.state_dict().items()}
    match = matcher(model, weights, target, Squared(), batch_activations(model, (1, 1, 2, 3)))
    assert match(x, one_hot(y, 3).float()[:, None]).distance.max() < 1e-10


@pytest.mark.parametrize("kind", DISGUISED)
def test_replicas_answer_as_each_does_alone_and_none_is_taken_for_a_perceptron(kind: str) -> None:
    torch.manual_seed(0)
    model, x = DISGUISED[kind](), torch.rand(1, 4, 1, 2, 3)
    weights = {name: w.detach()[None] for name, w in model.state_dict().items()}
    alone = functional_call(model, {name: w[0] for name, w in weights.items()}, (x[0],))
    torch.testing.assert_close(stacked_forward(model, weights, {}, x)[0], alone)
    assert not dense.fits(model, cross_entropy, Defense(), torch.zeros(1, dtype=torch.int64))
    assert layers_with_parameters(model) is None


def test_such_a_layer_is_no_linear_first_one_and_its_made_weight_is_not_sent() -> None:
    assert first_linear(perceptron(nn.Linear(6, 5)), 6) == "1"
    assert first_linear(perceptron(Doubled(6, 5)), 6) is None
    assert not_sent(perceptron(parametrised()), ["1.weight", "1.bias"]) == ["1.weight"]


def test_a_sequence_has_each_layer_in_one_place() -> None:
    assert is_plain(nn.ReLU())
    assert is_sequence(perceptron(nn.Linear(6, 5)))
    assert not is_sequence(shared())
    assert not is_sequence(nn.Sequential(shared()))
    with pytest.raises(UserError, match=r"^fl_setting\.cut=5: the model is no sequence of layers, each in one place"):
        cut(shared(), "5")
