"""What can be asked: a client by its adversary, a training that the adversary can repeat, its copy of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.randomness import Rng

if TYPE_CHECKING:
    from privsweep.interface.defense import Defense


class Query(Protocol):
    """What a client sends for model inputs ``[n, C, H, W]``, as often as is asked: ``[n, ...]``.

    A client whose noise is drawn anew draws it for every call.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


class Algorithm(Protocol):
    """How released models are trained, in the hands of one who knows all about it but a record.

    Balle, Cherubin and Hayes, "Reconstructing training data with informed adversaries" (2022).
    """

    @property
    def fixed(self) -> ImageSet:
        """The records that all models are trained on."""
        ...

    @property
    def random(self) -> bool:
        """Whether models with the same record differ: initial values of their own, or noise."""
        ...

    @property
    def released(self) -> int:
        """Epochs after which a model is handed out, one of those that ``course`` has the weights after."""
        ...

    @property
    def whole(self) -> Algorithm:
        """The same training, with models handed out when it ends."""
        ...

    def course(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> Mapping[int, Tensors]:
        """As a call, but the weights by epoch, after the last and some before it, whichever are handed out."""
        ...

    def network(self, rng: Rng) -> nn.Module:
        """A model before its training, with the defence's layers, on the CPU."""
        ...

    def together(self, device: torch.device) -> int:
        """How many models one call had better train."""
        ...

    def __call__(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensors:
        """Weights ``[K, ...]`` of models as handed out, trained on the fixed records, each with one of its own.

        ``present``, bool ``[K]``: whether model ``k`` is trained on ``records[k]`` at all. ``rngs``: of every model,
        what it draws from: initial values, where they are not the same for all, and noise. Model ``k`` depends on its
        own record and stream alone. ``watch`` is told the steps done, of all.
        """
        ...


class Retraining(Protocol):
    """The training of a federation, in the hands of one who repeats it on records of its own."""

    def __call__(self, records: ImageSet, defense: Defense, rng: Rng) -> Tensors:
        """Parameters and buffers of a model that as many clients have trained, among whom ``records`` are shared out.

        ``defense`` is bound; all else is drawn from ``rng``, initial values too. Raises UserError for too few records.
        """
        ...


class Imitation(Protocol):
    """An adversary's copy of a client, on which its attack was made; the true sequences tell what became of it."""

    def guesses(self, tokens: Tensor) -> Tensor:
        """What the attack makes of the features of the copy, int64 ``[n, L]``, for sequences ``[n, L]``."""
        ...

    def translations(self, tokens: Tensor) -> Tensor:
        """The copy's own translations, int64 ``[n, L']``."""
        ...
