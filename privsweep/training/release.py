"""The training of released models: on fixed records and one more, by full-batch gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from privsweep.interface.component import COUNTS_AS
from privsweep.interface.data import Architecture, Domain, ImageSet, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Optimizer
from privsweep.model.stochastic import Stochastic
from privsweep.training.frozen import train_mode, unfrozen
from privsweep.training.full_batch import convolutional, dense, grouped
from privsweep.training.full_batch.descent import Models, Task, descend
from privsweep.training.full_batch.one_by_one import OneByOne
from privsweep.training.full_batch.patched import Patched

_MOST = {"cpu": 64, "cuda": 1024}  # dense models together: with more, products gain nothing
_PATCHED = 256  # convolutional ones together on a GPU
_IN_TURN = 8  # others, which gain little or nothing: few, so that little is lost when a run is killed
_COPIES = 6  # of the weights: initial values, weights, gradient, two moments, and what comes back


@dataclass(frozen=True)
class ReleaseTraining:
    """An ``Algorithm``: every epoch is one step on all records. The whole of it has a checksum.

    Balle, Cherubin and Hayes, "Reconstructing training data with informed adversaries" (2022), table IV.

    The defence acts at ``model``, ``loss``, ``example_gradients`` and ``gradient``, where model ``k`` draws from
    ``rngs[k].child("step", t)`` in step ``t``. A model divides by the number of its records; where the defence changes
    single records' gradients, by the number with its own one, there or not. Batches are never drawn.
    """

    architecture: Architecture
    domain: Domain
    fixed: ImageSet
    defense: Defense  # bound
    rule: Optimizer
    epochs: int
    start: Tensors | None  # of every model, parameters and buffers by name; None: drawn from ``rngs[k]``
    memory: float = field(metadata={COUNTS_AS: 1.0})  # GiB for the models that one call trains
    checkpoints: tuple[int, ...] = ()  # epochs after which ``course`` has the weights, besides the last
    last: int | None = None  # epochs after which a model is handed out; None: all

    @property
    def released(self) -> int:
        return self.epochs if self.last is None else self.last

    @property
    def whole(self) -> ReleaseTraining:
        return replace(self, last=None)

    @property
    def random(self) -> bool:
        """Whether a model depends on its stream, for its initial values, its layers' noise or that of the defence."""
        layers = self.network(Rng(0)).modules()
        noisy = self.defense.acts_at() & {"example_gradients", "gradient"}
        return self.start is None or bool(noisy) or any(isinstance(layer, Stochastic) for layer in layers)

    def together(self, device: torch.device) -> int:
        """No more than ``memory`` holds, and than is of use; at least one."""
        net = self.network(Rng(0))
        most = _IN_TURN
        if self._is_dense(net):
            most = _MOST[device.type]
        elif self._is_patched(net, device):
            most = _PATCHED
        shared = 3 * 4 * self.fixed.images.numel()  # inputs, and those laid out for the products
        held = 4 * (_COPIES + len(self.checkpoints)) * sum(w.numel() for w in net.state_dict().values())
        return max(1, min(most, int(self.memory * 2**30 - shared) // held))

    def __call__(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Tensor]:
        return self._trained(records, present, rngs, watch, None, [self.released])[self.released]

    def course(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
        each: Callable[[int, Tensors], None] | None = None,
    ) -> dict[int, dict[str, Tensor]]:
        """As ``Algorithm`` says; ``each`` is called with the epochs done and the weights they lead to, every time."""
        return self._trained(records, present, rngs, watch, each, [*self.checkpoints, self.epochs])

    def _trained(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None],
        each: Callable[[int, Tensors], None] | None,
        stops: Sequence[int],
    ) -> dict[int, dict[str, Tensor]]:
        task = self.task(records, present, rngs)
        models: Models
        if self._is_dense(task.net):
            models = dense.Dense(task)
        elif self._is_patched(task.net, task.x.device):
            models = Patched(task)
        elif grouped.wins(task.net, self.defense, task.x):
            models = grouped.Grouped(task)
        else:
            models = OneByOne(task)
        return descend(models, task, self.rule, self.epochs, rngs, watch, each, stops)

    def task(self, records: ImageSet, present: Tensor, rngs: Sequence[Rng]) -> Task:
        """What a call computes."""
        device = self.fixed.labels.device
        net = self.network(Rng(0)).to(device)
        train_mode(net, set(unfrozen(net)))
        records = records.to(device)
        return Task(
            net,
            self.defense.loss(self.domain.loss),
            self.defense,
            self.domain.inputs_of(self.fixed),
            self.fixed.labels,
            self.domain.inputs_of(records),
            records.labels,
            present.to(device),
            self._starts(rngs, device),
        )

    def _is_dense(self, net: nn.Module) -> bool:
        return dense.fits(net, self.defense.loss(self.domain.loss), self.defense, self.fixed.labels)

    def _is_patched(self, net: nn.Module, device: torch.device) -> bool:
        return device.type == "cuda" and convolutional.fits(net, self.defense)

    def _starts(self, rngs: Sequence[Rng], device: torch.device) -> dict[str, Tensor]:
        """Initial values ``[K, ...]``."""
        if self.start is not None:
            return {name: w.to(device).expand(len(rngs), *w.shape) for name, w in self.start.items()}
        states = [self.network(rng).state_dict() for rng in rngs]
        return {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}

    def network(self, rng: Rng) -> nn.Module:
        """A network before its training, with the defence's layers, on the CPU."""
        return self.defense.model(self.architecture.build(self.domain, rng.child("init")), rng.child("defense"))


class LayersAlone(Defense):
    """What a defence makes of the network and of the loss, and nothing of what it does to gradients."""

    def __init__(self, defense: Defense):
        self.defense = defense

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        return self.defense.model(model, rng)

    def loss(self, loss: Loss) -> Loss:
        return self.defense.loss(loss)
