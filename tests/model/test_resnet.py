"""ResNet18 against torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.model.resnet import ResNet
from privsweep.model.split_at import cut

IMAGENET = Domain((3, 224, 224), 1000, (0.0,) * 3, (1.0,) * 3)


def ours(**changes: str) -> nn.Sequential:
    chosen = {"stem": "imagenet", "norm": "batch", "activation": "relu", "init": "he", **changes}
    return ResNet(blocks=(2, 2, 2, 2), width=64, **chosen).build(IMAGENET, Rng(0))  # type: ignore[arg-type]


def test_the_imagenet_stem_is_torchvisions_network():
    reference, model = resnet18(weights=None), ours()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in reference.parameters())

    copied = zip(model.state_dict().items(), reference.state_dict().values(), strict=True)
    model.load_state_dict({name: theirs for (name, _), theirs in copied})
    x = torch.randn(2, 3, 64, 64, generator=Rng(1).generator())
    for mode in (True, False):  # eval mode afterwards reads the running statistics of both
        with torch.no_grad():
            torch.testing.assert_close(model.train(mode)(x), reference.train(mode)(x))


@pytest.mark.parametrize(("stem", "side"), [("small", 32), ("pooled", 16), ("imagenet", 8)])
def test_what_a_client_sends_that_holds_the_stem(stem, side):
    """Ensembler, section 5.1: 64x16x16 features of CIFAR-10, 64x32x32 without the pooling."""
    model = ours(stem=stem)
    head, _ = cut(model, "pool1" if "pool1" in dict(model.named_children()) else "act1")
    assert head(torch.rand(2, 3, 32, 32)).shape == (2, 64, side, side)


def test_pooling_has_no_parameters_and_takes_the_largest_of_four():
    small, pooled = ours(stem="small").eval(), ours(stem="pooled").eval()
    assert list(small.state_dict()) == list(pooled.state_dict())
    assert all(map(torch.equal, small.state_dict().values(), pooled.state_dict().values()))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before, after = small[:3](x), pooled[:4](x)
    assert torch.equal(after, before.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)))


@pytest.mark.parametrize("init", ["he", "default"])
def test_he_weights_spread_as_torchvisions_do(init):
    reference = resnet18(weights=None).state_dict().values()
    for (name, mine), theirs in zip(ours(init=init).state_dict().items(), reference, strict=True):
        if mine.dim() == 4:
            same = abs(mine.std() / theirs.std() - 1) < 0.1
            assert same == (init == "he"), name
        elif mine.is_floating_point() and not name.startswith("output"):
            assert torch.equal(mine, theirs), name
