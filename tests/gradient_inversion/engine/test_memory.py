"""What a network holds of a batch."""

import torch
from torch import nn

from privsweep.gradient_inversion.engine.memory import footprint
from privsweep.model.residual import Residual


def test_places_and_numbers_are_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 5, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)).double()
    found = footprint(model, (2, 2, 8, 8))
    assert found.places == {"0": 2 * 4 * 4}
    outputs = 2 * (5 * 16 + 5 * 16 + 80 + 3)
    assert found.numbers == 6 * outputs + 2 * 2 * 16 * 2 * 9
    assert next(model.parameters()).device.type == "cpu"


def test_layers_within_blocks_are_found_by_their_path():
    conv = nn.Conv2d(2, 2, 3, padding=1)
    model = nn.Sequential(Residual(nn.Sequential(conv), nn.Sequential()))
    assert footprint(model, (1, 2, 4, 4)).places == {"0.branch.0": 16}
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(model(x), conv(x) + x)
