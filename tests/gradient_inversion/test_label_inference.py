"""Labels read off gradients."""

from __future__ import annotations

import pytest
import torch

from privsweep.gradient_inversion.label_inference import label_images, read_labels
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 0.0])
@pytest.mark.parametrize("examples", [1, 4, 40])
def test_a_gradient_that_tells_nothing_has_labels_all_the_same(
    data: Data, lenet: ConvNet, value: float, examples: int
) -> None:
    net = lenet.build(data.domain, Rng(0))
    gradient = {name: torch.full((2, *p.shape), value) for name, p in net.named_parameters()}
    labels = read_labels(net, net.state_dict(), gradient, data.domain, examples, Rng(0))
    assert labels.shape == (2, examples)
    assert ((labels >= 0) & (labels < data.domain.classes)).all()
    images = torch.zeros(2, examples, *data.domain.shape)
    assert label_images(net, net.state_dict(), gradient, images).shape == (2, examples)


def test_where_the_sum_is_nothing_classes_are_even(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0))
    gradient = {name: torch.full((1, *p.shape), float("nan")) for name, p in net.named_parameters()}
    labels = read_labels(net, net.state_dict(), gradient, data.domain, 40, Rng(0))
    assert labels[0].bincount().tolist() == [4] * data.domain.classes
