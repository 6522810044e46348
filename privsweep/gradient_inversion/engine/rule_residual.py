"""How two paths whose outputs are added take part in gradient matching (see ``rule_activation``).

In the list of rules the branch comes first and the shortcut after it. Each sweep visits them in that order or in
reverse, and these three rules hand over what the other path needs.
"""

from __future__ import annotations

from torch import Tensor

from privsweep.gradient_inversion.engine.rule_activation import Linear


class Fork(Linear):
    """Where the paths part: before the branch."""

    value: Tensor  # in the current sweep
    other: Swap

    def forward(self, a: Tensor) -> Tensor:
        self.value = a
        return a

    def backward(self, d: Tensor) -> Tensor:
        return d + self.other.by_shortcut


class Swap(Linear):
    """Between the end of the branch and the beginning of the shortcut."""

    by_branch: Tensor
    by_shortcut: Tensor

    def __init__(self, fork: Fork, join: Join):
        self.fork, self.join = fork, join
        fork.other = join.other = self

    def forward(self, a: Tensor) -> Tensor:
        self.by_branch = a
        return self.fork.value

    def backward(self, d: Tensor) -> Tensor:
        self.by_shortcut = d
        return self.join.value


class Join(Linear):
    """Where the paths are added: after the shortcut."""

    value: Tensor  # in the current sweep
    other: Swap

    def forward(self, a: Tensor) -> Tensor:
        return self.other.by_branch + a

    def backward(self, d: Tensor) -> Tensor:
        self.value = d
        return d
