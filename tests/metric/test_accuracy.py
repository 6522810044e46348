"""The utility of a model."""

import pytest
import torch
from torch import nn

from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.metric.accuracy import accuracy
from privsweep.model.stochastic import Stochastic

DOMAIN = Domain((1, 2, 2), 4, (0.5,), (0.5,))


def split(n):
    """Images of one bright pixel, whose position is the label."""
    labels = torch.arange(n) % 4
    return ImageSet((torch.eye(4)[labels] * 255).to(torch.uint8).reshape(n, 1, 2, 2), labels)


def oracle():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
    return model, {"1.weight": torch.eye(4)}


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_the_share_of_right_answers_for_any_batch(batch):
    model, weights = oracle()
    examples = split(10)
    assert accuracy(model, weights, examples, DOMAIN, batch) == 1.0
    examples.labels[:3] = 3
    assert accuracy(model, weights, examples, DOMAIN, batch) == 0.7


def test_the_weights_given_count_and_the_models_stay():
    model, weights = oracle()
    own = model[1].weight.detach().clone()
    assert accuracy(model, {"1.weight": -weights["1.weight"]}, split(8), DOMAIN) == 0.0
    assert torch.equal(model[1].weight, own)
    assert not accuracy(model, weights, split(8), DOMAIN) < 1


def test_it_is_measured_in_eval_mode_and_the_mode_comes_back():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 4))
    model[0].eval()
    model[1].train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(Rng(0).key() % 2**31)
    first, second = (accuracy(model, weights, split(40), DOMAIN) for _ in range(2))
    assert first == second
    assert [m.training for m in model] == [False, True, True, True]
    assert torch.equal(weights["0.running_mean"], torch.zeros(1))


def test_no_single_label_no_accuracy():
    model, weights = oracle()
    examples = split(4)
    for wrong in (examples.take(torch.arange(0)), ImageSet(examples.images, torch.eye(4).long())):
        with pytest.raises(UserError, match="one label"):
            accuracy(model, weights, wrong, DOMAIN)


def test_outputs_beyond_the_classes_are_ignored():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    weights = {"1.weight": torch.eye(5)[:, :4], "1.bias": torch.eye(5)[4] * 1e6}
    assert accuracy(model, weights, split(10), DOMAIN) == 1.0


def test_stochastic_layers_sample_and_do_so_alike_every_time():
    class Jitter(Stochastic):
        def forward(self, x):
            return x + 10 * self.noise

    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), Jitter(4))
    weights = {"1.weight": torch.eye(4)}
    first, second = (accuracy(model, weights, split(400), DOMAIN, 100) for _ in range(2))
    assert first == second
    assert 0.25 < first < 0.5
