"""An architecture of an attack's own, chosen by its name: nothing is left of the one that stood there."""

from __future__ import annotations

import pytest

from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.run.build import build
from privsweep.run.compose import compose, searching


@pytest.mark.parametrize(
    "attack", ["shadow_membership", "lira_offline"]
)  # with an architecture of its own, and without
def test_an_attacks_architecture_is_chosen_by_name_and_its_values_are_set(attack: str) -> None:
    with searching(None):
        chosen = [f"attack={attack}", "+model@attack.shadow=lenet", "attack.shadow.width=4"]
        shadow = build(compose(chosen)).attack.shadow  # type: ignore[union-attr]
        other = build(compose([f"attack={attack}", "+model@attack.shadow=smlp"])).attack.shadow  # type: ignore[union-attr]
    assert isinstance(shadow, ConvNet)
    assert (shadow.width, tuple(shadow.fc)) == (4, (120, 84))
    assert isinstance(other, MLP)
    assert (other.width, other.depth, other.dropout) == (1024, 2, 0.0)
