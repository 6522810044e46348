"""How far a batch is from what a network's batch normalisation has seen in training.

The running means and variances are among the weights of a server's part: they tell of the features that reached it.
(Yin et al., "Dreaming to distill", 2020, use them to draw images; here they pull a shadow head towards the client's.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BesideStatistics(nn.Module):
    """``net`` with one more output: the distance of its batch from the running statistics within ``watched``.

    The mean over layers and channels of ``(mean - running mean)^2 / running variance`` and of the squared logarithm of
    ``variance / running variance``; zero where ``watched`` has no batch normalisation. The same for every example.
    """

    def __init__(self, net: nn.Module, watched: nn.Module):
        super().__init__()
        self.net = net
        self._found: list[Tensor] = []
        for layer in watched.modules():
            if isinstance(layer, _BatchNorm):
                layer.register_forward_pre_hook(self._compare)

    def forward(self, x: Tensor) -> Tensor:
        self._found.clear()
        outputs = self.net(x)
        distance = torch.stack(self._found).mean() if self._found else outputs.new_zeros(())
        return torch.cat([outputs, distance.expand(len(outputs), 1)], 1)

    def _compare(self, layer: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        z = given[0]
        over = [d for d in range(z.dim()) if d != 1]
        mean = z.mean(over)
        # Two passes: PyTorch's own variance takes one value at a time on a CPU.
        variance = (z - mean.view(1, -1, *[1] * (z.dim() - 2))).square().mean(over)
        expected = layer.running_var + layer.eps
        shift = (mean - layer.running_mean).square() / expected
        spread = ((variance + layer.eps) / expected).log().square()
        self._found.append((shift + spread).mean())
