"""What all attacks on updates have in common."""

import math

import torch

from privsweep.gradient_inversion.update_to_gradient import finite
from privsweep.membership_inference.example_rows import flat
from privsweep.weight_inversion.shadow_weights import flatten

SENT = {"gain": torch.tensor([1.0, 2.0, math.nan]), "weight": torch.tensor([[1.0, 2.0], [math.inf, 0.0], [3.0, 4.0]])}


def test_a_parameter_may_be_a_single_number() -> None:
    assert finite(SENT).tolist() == [True, False, False]
    assert flat(SENT)[0].tolist() == flatten(SENT)[0].tolist() == [1.0, 1.0, 2.0]
