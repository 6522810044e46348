"""Networks of torchvision by name, untrained."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6
from torchvision import models
from torchvision.ops import StochasticDepth

from privsweep.interface.component import component
from privsweep.interface.data import Domain, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.dropout import Dropout

SIDES = (32, 64, 96, 128, 192, 224, 256, 299)  # of square images that are tried where the dataset's do not fit
NAMES = tuple(models.list_models(module=models))  # classifiers of images; not segmentation, detection, video

Shapes = dict[str, tuple[int, ...]]


@component
class TorchvisionModel:
    """A classifier that torchvision builds under ``name``, with initial values as there; nothing is downloaded.

    Layers have torchvision's names. Of grey images the first convolution answers what it would answer to three equal
    channels. Dropout and stochastic depth take their noise as an input, and no layer works in place.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            near = get_close_matches(self.name.lower(), NAMES, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(NAMES)}"
            raise UserError(f"model.name={self.name}: torchvision has no classifier of that name; {hint}")

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]`` with one or three channels.

        Raises UserError where the network does not fit the images, or answers with more than logits.
        """
        channels, height, width = image_shape(domain, "model", "model=translation_transformer")
        if channels not in (1, 3):
            raise UserError(
                f"model.name={self.name}: takes images of 1 or 3 channels, not {channels}; set dataset.channels=rgb"
            )
        shapes = _traced(self.name, domain.shape, domain.classes)
        if shapes is None:
            side = next((s for s in SIDES if _traced(self.name, (channels, s, s), domain.classes) is not None), None)
            remedy = "choose another model" if side is None else f"set dataset.resize={side}, or choose another model"
            raise UserError(f"model.name={self.name}: does not fit images of {height}x{width} pixels; {remedy}")
        with seeded(rng):
            model = _made(self.name, channels, domain.classes)
        _take_noise_as_input(model, shapes)
        return model


class HardSigmoid(nn.Module):
    """PyTorch's own cannot be differentiated twice, as gradient matching must."""

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x + 3) / 6


def _made(name: str, channels: int, classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of slow or deprecated initial values
        try:
            model = models.get_model(name, weights=None, num_classes=classes)
        except NotImplementedError:  # on the meta device: some compute their widths with tensors
            with torch.device("cpu"):
                model = models.get_model(name, weights=None, num_classes=classes).to("meta")
    if channels == 1:
        stem = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        stem.weight = nn.Parameter(stem.weight.detach().sum(1, keepdim=True))
        stem.in_channels = 1
    for path, layer in list(model.named_modules()):
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]
        if isinstance(layer, nn.Hardsigmoid):
            _replace(model, path, HardSigmoid())
    return model


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)


def _random_layers(model: nn.Module) -> dict[str, nn.Dropout | StochasticDepth]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Dropout | StochasticDepth)}


@cache
def _traced(name: str, shape: tuple[int, int, int], classes: int) -> Shapes | None:
    """What one example gives to every layer that draws noise, by name; None where such images do not fit.

    Nothing is computed: two images pass on the meta device, in train mode. Raises UserError for a network that
    answers with more than logits.
    """
    shapes: Shapes = {}
    with torch.device("meta"), seeded(Rng(0)):  # initial values that a meta device cannot spare are drawn in vain
        model = _made(name, shape[0], classes).train()
        for path, layer in _random_layers(model).items():
            layer.register_forward_pre_hook(
                lambda _, given, path=path: shapes.__setitem__(path, tuple(given[0].shape[1:]))
            )
        try:
            answer = model(torch.zeros(2, *shape))
        except Exception:  # whatever a layer raises that runs out of pixels
            return None
    if not isinstance(answer, Tensor) or answer.shape != (2, classes):
        raise UserError(
            f"model.name={name}: answers with auxiliary outputs besides the logits while it trains; "
            "choose another model"
        )
    return shapes


def _take_noise_as_input(model: nn.Module, shapes: Shapes) -> None:
    for path, layer in _random_layers(model).items():
        shape = shapes.get(path, ())
        if isinstance(layer, StochasticDepth):
            shape = (1,) * len(shape)  # an example's whole branch is dropped
        _replace(model, path, Dropout(shape, layer.p) if layer.p and shape else nn.Identity())
