"""The vision transformer against torchvision's, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer as Theirs

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.vision_transformer import VisionTransformer

COLOUR = Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)


def built(domain: Domain = COLOUR, **changes: Any) -> nn.Sequential:
    sizes = {"patch": 8, "width": 24, "heads": 3, "depth": 2, "feedforward": 48}
    how = {"positions": "learnt", "pooling": "token", "activation": "gelu"}
    return VisionTransformer(**{**sizes, **how, **changes}).build(domain, Rng(0))


def test_it_computes_what_torchvisions_does() -> None:
    ours, theirs = built(), Theirs(32, 8, 2, 3, 24, 48, num_classes=10)
    blocks = "encoder.layers.encoder_layer_{}"
    names = {"conv_proj": "patches.project", "encoder.ln": "norm", "heads.head": "output"}
    for n in (0, 1):
        block, own = blocks.format(n), f"block{n + 1}"
        names |= {
            f"{block}.ln_1": f"{own}.attend.branch.norm", f"{block}.ln_2": f"{own}.dense.branch.norm",
            f"{block}.self_attention.out_proj": f"{own}.attend.branch.attention.outward",
            f"{block}.mlp.0": f"{own}.dense.branch.fc1", f"{block}.mlp.3": f"{own}.dense.branch.fc2",
        }  # fmt: skip
    mine = ours.state_dict()
    copied = {f"{a}.{kind}": mine[f"{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
    for n in (0, 1):
        for kind in ("weight", "bias"):
            inward = mine[f"block{n + 1}.attend.branch.attention.inward.{kind}"]
            copied[f"{blocks.format(n)}.self_attention.in_proj_{kind}"] = inward
    copied["class_token"] = mine["patches.token"].view(1, 1, -1)
    copied["encoder.pos_embedding"] = mine["patches.position"][None]
    theirs.load_state_dict(copied)
    for layer in theirs.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = 1e-5  # theirs is 1e-6
    x = torch.rand(2, 3, 32, 32, generator=Rng(1).generator())
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_its_layers_can_be_cut_between() -> None:
    assert [name for name, _ in built().named_children()] == ["patches", "block1", "block2", "norm", "pool", "output"]
    x = torch.rand(2, 3, 32, 32)
    assert built()[:3](x).shape == (2, 17, 24)
    assert built(pooling="mean")[:3](x).shape == (2, 16, 24)


def test_sinusoidal_positions_are_no_parameters_and_tell_patches_apart() -> None:
    model = built(positions="sinusoidal", width=24, heads=2, pooling="mean")
    assert "patches.position" not in model.state_dict()
    grey = torch.full((1, 3, 32, 32), 0.5)
    with torch.no_grad():
        embedded = model.patches(grey)[0]
    assert torch.pdist(embedded).min() > 0.1


def test_images_need_not_be_square() -> None:
    assert built(Domain((1, 16, 32), 10, (0.0,), (1.0,)))(torch.rand(2, 1, 16, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 25}, r"model\.width=25: must be a multiple of model\.heads=3; take model\.width=27"),
        (
            {"width": 27, "positions": "sinusoidal"},
            r"model\.width=27: .* and even, for model\.positions=sinusoidal; take model\.width=30",
        ),
        ({"patch": 5}, r"model\.patch=5: does not divide images of 32x32; take model\.patch=4, or resize"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built(**changes)


def test_it_learns() -> None:
    """Which images are redder, in a few steps."""
    x, y = torch.rand(64, 3, 32, 32, generator=Rng(1).generator()), torch.arange(64) % 2
    x[y == 1, 0] += 1
    model = built(depth=1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
