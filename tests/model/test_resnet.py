"""ResNet18 against torchvision's."""

import torch
from torchvision.models import resnet18

from privsweep.game import Domain
from privsweep.model.resnet import ResNet
from privsweep.randomness import Rng


def test_the_imagenet_stem_is_torchvisions_network():
    reference = resnet18(weights=None)
    imagenet = Domain((3, 224, 224), 1000, (0.0,) * 3, (1.0,) * 3)
    architecture = ResNet(blocks=(2, 2, 2, 2), width=64, stem="imagenet", norm="batch", activation="relu")
    ours = architecture.build(imagenet, Rng(0))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())

    copied = zip(ours.state_dict().items(), reference.state_dict().values(), strict=True)
    ours.load_state_dict({name: theirs for (name, _), theirs in copied})
    x = torch.randn(2, 3, 64, 64, generator=Rng(1).generator())
    for mode in (True, False):  # eval mode afterwards reads the running statistics of both
        with torch.no_grad():
            torch.testing.assert_close(ours.train(mode)(x), reference.train(mode)(x))
