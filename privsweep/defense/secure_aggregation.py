"""Secure aggregation: the server learns the sum of the clients' messages, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Self, cast

import torch
from pydantic import Field
from torch import Tensor

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.training.aggregation import participants


@component
class SecureAggregation(Defense):
    """Pairwise masks, in fixed-point arithmetic modulo ``2 ** bits``, that cancel in the sum.

    Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (2017), sections 4.0.1 and
    4.0.2: of two clients one adds what a generator makes of their common seed and the other takes it off. A share
    ``dropout`` of a round's clients vanishes after masking; the others reveal the seeds that they had in common with
    those, so that the sum of the rest comes out, and with fewer than ``threshold`` left they refuse. Simulated: key
    agreement, secret sharing and double masks are not, and the generator is PyTorch's.

    The server sees a sum of one round's updates, exact in steps of ``2 ** -fraction_bits``. Updates that were clipped
    are rounded towards zero, for else they might grow beyond their bound, many small entries above all.
    """

    fraction_bits: Annotated[int, Field(ge=1)]
    bits: Annotated[int, Field(ge=2, le=53)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    threshold: Annotated[int, Field(ge=2)]

    sums_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.bits <= self.fraction_bits:
            raise UserError(
                f"defense.secure_aggregation.bits={self.bits}: holds a sign and {self.fraction_bits} bits after the "
                "point; take more than defense.secure_aggregation.fraction_bits"
            )

    def bind(self, schedule: Schedule) -> Self:
        """Raises UserError where too few clients would be left in a round."""
        self._left(participants(schedule.clients, schedule.participation))
        return self

    def shortening(self) -> Self:
        return cast(Self, _TowardsZero(**vars(self)))

    def _left(self, clients: int) -> int:
        left = clients - round(self.dropout * clients)
        if left < self.threshold:
            raise UserError(
                f"defense.secure_aggregation.threshold={self.threshold}: of {clients} clients in a round {left} get "
                "through, and their sum would say too much of each; take more fl_setting.clients, a lower "
                "defense.secure_aggregation.dropout, or a lower threshold (2 at least)"
            )
        return left

    def surviving_clients(self, clients: int, rng: Rng) -> list[int]:
        order = rng.child("dropout").permutation(clients)
        return sorted(order[: self._left(clients)].tolist())

    def server_view(self, updates: Sequence[Tensors], rng: Rng) -> list[Tensors]:
        """The messages of the clients that get through, int64 below ``2 ** bits``, seeds of vanished ones revealed."""
        surviving = self.surviving_clients(len(updates), rng)
        messages = [self._encode(update, len(updates)) for update in updates]
        for one, other in combinations(range(len(updates)), 2):
            mask = self._mask(updates[one], rng.child("pair", one, other))
            messages[one] = {name: t + mask[name] for name, t in messages[one].items()}
            messages[other] = {name: t - mask[name] for name, t in messages[other].items()}
        for stayed in surviving:
            for gone in set(range(len(updates))) - set(surviving):
                one, other = sorted((stayed, gone))
                sign = 1 if stayed == one else -1
                mask = self._mask(updates[stayed], rng.child("pair", one, other))
                messages[stayed] = {name: t - sign * mask[name] for name, t in messages[stayed].items()}
        return [self._wrap(messages[n]) for n in surviving]

    def combine(self, messages: Sequence[Tensors]) -> dict[str, Tensor]:
        """The sum, float64."""
        total = self._wrap(super().combine(messages))
        half = 1 << (self.bits - 1)
        return {name: ((t + half) % (2 * half) - half).double() / 2**self.fraction_bits for name, t in total.items()}

    def _encode(self, update: Tensors, clients: int) -> dict[str, Tensor]:
        """Whole steps of the fixed point; the sum of all clients' must fit."""
        scaled = {name: self._whole(t.double() * 2**self.fraction_bits) for name, t in update.items()}
        most = ((1 << (self.bits - 1)) - 1) // clients
        largest = torch.stack([t.abs().amax() for t in scaled.values()]).amax().item()
        if not largest <= most:  # what is not a number does not fit either
            raise UserError(
                f"defense.secure_aggregation.bits={self.bits}: an entry of size {largest / 2**self.fraction_bits:.3g} "
                f"does not fit into the sum of {clients} clients with fraction_bits={self.fraction_bits}; take more "
                "bits (53 at most), or fewer of the fraction"
            )
        return {name: t.long() for name, t in scaled.items()}

    def _whole(self, steps: Tensor) -> Tensor:
        return steps.round()

    def _mask(self, like: Tensors, rng: Rng) -> dict[str, Tensor]:
        """Uniform below ``2 ** bits``, from the seed that two clients have in common."""
        device = next(iter(like.values())).device
        generator = rng.generator(device)
        return {
            name: torch.empty(t.shape, dtype=torch.int64, device=device).random_(0, 1 << self.bits, generator=generator)
            for name, t in like.items()
        }

    def _wrap(self, message: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: t & ((1 << self.bits) - 1) for name, t in message.items()}


class _TowardsZero(SecureAggregation):
    def _whole(self, steps: Tensor) -> Tensor:
        return steps.trunc()
