"""Two paths that are added up."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """``branch(x) + shortcut(x)``; an empty shortcut hands ``x`` on. Both are ``nn.Sequential`` of named layers.

    Networks whose shortcuts are of this kind are attacked by the fast engine of gradient matching.
    """

    def __init__(self, branch: nn.Sequential, shortcut: nn.Sequential):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)
