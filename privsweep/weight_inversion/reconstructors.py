"""Networks that turn the weights of a model into an image (Balle, Cherubin and Hayes, 2022, tables IV and VI)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from privsweep.interface.errors import UserError


def mlp(numbers: int, shape: Sequence[int], width: int, depth: int) -> nn.Sequential:
    """``[n, numbers] -> [n, *shape]`` in [0, 1]: ``depth`` hidden layers of ``width`` with ReLU, a sigmoid at the end.

    The paper's for MNIST is 7960-1000-1000-784, of 9,746,784 parameters.
    """
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(numbers, width), nn.ReLU()]
        numbers = width
    return _initialised(nn.Sequential(*layers, nn.Linear(numbers, prod(shape)), nn.Sigmoid(), _unflatten(shape)))


def transposed(numbers: int, shape: Sequence[int], channels: int) -> nn.Sequential:
    """``[n, numbers] -> [n, *shape]`` in [0, 1]: a dense layer to a map of a quarter of the image's height and width.

    Two transposed convolutions, 5x5 at stride 2, follow: to half as many channels, and to the image's. Each doubles
    height and width. ReLU between, a sigmoid at the end. At 64 channels this is the paper's for CIFAR-10: 4096 units,
    read as 8x8 of 64, then 32 and 3 filters; 226,189,699 parameters for 55,208 numbers. The paper states neither the
    padding nor what follows the dense layer.

    Raises UserError for images whose sides are no multiples of four.
    """
    image, height, width = shape
    if height % 4 or width % 4:
        raise UserError(
            f"attack.reconstructor=transposed: doubles a small map twice, and {height}x{width} pixels are no multiples "
            f"of four; take attack.reconstructor=mlp, or dataset.resize={max(4, height // 4 * 4)}"
        )
    small = (channels, height // 4, width // 4)
    half = -(-channels // 2)
    return _initialised(
        nn.Sequential(
            nn.Linear(numbers, prod(small)),
            nn.ReLU(),
            _unflatten(small),
            _doubling(channels, half),
            nn.ReLU(),
            _doubling(half, image),
            nn.Sigmoid(),
        )
    )


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _unflatten(shape: Sequence[int]) -> nn.Unflatten:
    return nn.Unflatten(1, tuple(shape))


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """Weights from a normal distribution cut off at two deviations of one over the root of the inputs; biases zero.

    So does Haiku, which the paper's authors used. A transposed convolution counts its kernel and its input channels.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
            inputs = layer.weight[:, 0].numel() if isinstance(layer, nn.ConvTranspose2d) else layer.in_features
            deviation = inputs**-0.5
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            assert isinstance(layer.bias, Tensor)
            nn.init.zeros_(layer.bias)
    return network
