"""Training a federation as a run does, utility included, against a plain loop that ends with the test accuracy.

The floor is a training step's own matrix products at the speed of a large one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from benchmarks import plain_training as plain
from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn
from benchmarks.floor import training_step
from benchmarks.workplace import random_data, spec_of, trained
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import TrainsTogether
from privsweep.interface.rounding import precision_on, round_products
from privsweep.run.run_spec import RunSpec
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store

CLIENTS, BATCH, LR, CLIP = 3, 64, 1e-3, 1.0
EPOCHS = 10  # from one look at the accuracy to the next, as a run has it by default
LEARNT = 1e-2  # by which the mean losses of two orders of the same work may differ, relative
SMALL = ("model.width=4",)


def _run(
    setup: Setup, setting: str, model: str, *further: str, some: float = 1.0, epochs: int = EPOCHS
) -> tuple[RunSpec, Data, int]:
    """A run, its data, or a part of them, and the epochs (of all clients together) that a turn takes."""
    size, epochs = setup.sized(3 * BATCH, round(some * 3840 / epochs), 38_400 // epochs), setup.sized(1, epochs, epochs)
    length = f"local_epochs={epochs}" if setting == "fedavg" else f"epochs={epochs}"
    rounds = ["fl_setting.rounds=1", f"fl_setting.clients={CLIENTS}"] if setting == "fedavg" else []
    values = [f"fl_setting={setting}", f"model={model}", f"fl_setting.lr={LR}", f"fl_setting.{length}", *rounds]
    small = SMALL if setup.quick else ()
    spec = spec_of("attack=none", *values, f"fl_setting.batch_size={BATCH}", *small, *further)
    return spec, random_data(size, size // 5, setup.device), epochs


def _images(spec: RunSpec, data: Data, epochs: int, setup: Setup) -> Callable[[], float]:
    def ours() -> float:
        trained(spec, data, setup)
        return epochs * len(data.train)

    return ours


def _net(spec: RunSpec, data: Data, setup: Setup) -> nn.Module:
    return spec.model.build(data.domain, Rng(0)).to(setup.device)


def _floor(net: nn.Module, data: Data, setup: Setup) -> Turn:
    """A batch's products, forward and back; no accuracy is told."""
    return training_step(net, data.domain.inputs_of(data.train, slice(BATCH)), setup.quick)


def central(model: str, setup: Setup) -> Contest:
    """Accuracy after every epoch, and after the last as the baseline has it; and that with rounded steps."""
    spec, data, epochs = _run(setup, "central", model, "fl_setting.evaluate_every=1")
    once, _, _ = _run(setup, "central", model, "fl_setting.evaluate_every=null")
    batches, start = plain.loader(data, BATCH), _net(spec, data, setup)

    def baseline() -> float:
        net = copy.deepcopy(start)
        plain.train(net, torch.optim.Adam(net.parameters(), LR), batches, epochs)
        plain.accuracy(net, data)
        return epochs * len(data.train)

    every = _images(spec, data, epochs, setup)
    at_the_end = _images(once, data, epochs, setup)

    def rounded() -> float:
        before = precision_on(setup.device)
        round_products("bfloat16")
        try:
            return at_the_end()
        finally:
            round_products(before)

    ways = {"accuracy every epoch": every, "at the end": at_the_end, "at the end, bfloat16": rounded}
    return Contest(baseline, ways, _floor(start, data, setup))


def seeds(model: str, setup: Setup) -> Contest:
    """Seeds of one training, each by itself, or at once: three, and on a GPU ten, too."""
    spec, data, epochs = _run(setup, "central", model, "fl_setting.evaluate_every=null", "fl_setting.optimizer=sgd")
    setting, defense = spec.training_setting(), spec.training_defense()
    rngs = [Rng(k) for k in range(3 if setup.device.type == "cpu" else 10)]
    assert isinstance(setting, TrainsTogether)
    bench = Workbench(setup.device, Store(setup.folder), spec.signature)

    def way(groups: Sequence[Sequence[Rng]]) -> list[System]:
        with bench.phase("training"):
            trained = (setting.train_together(data, spec.model, [defense] * len(g), g, bench) for g in groups)
            return [system for systems in trained for system in systems]

    apart = [[rng] for rng in rngs[:3]]
    for one, other in zip(way(apart), way([rngs[:3]]), strict=True):
        if abs(one.curve[-1]["loss"] - other.curve[-1]["loss"]) > LEARNT * one.curve[-1]["loss"]:
            raise DisagreementError("together and by itself a system's loss differs")

    def turn(groups: Sequence[Sequence[Rng]]) -> Turn:
        return lambda: len(way(groups)) * epochs * len(data.train)

    ways = {f"{count} at once": turn([rngs[:count]]) for count in sorted({3, len(rngs)})}
    return Contest(turn(apart), ways, _floor(_net(spec, data, setup), data, setup))


def fedavg(model: str, setup: Setup) -> Contest:
    """One round of clients: in turn, stacked on a leading axis, and abreast."""
    ways = {}
    losses = []
    for way in ("sequential", "stacked", "abreast"):
        spec, data, epochs = _run(setup, "fedavg", model, f"fl_setting.parallel={way}")
        ways["in turn" if way == "sequential" else way] = _images(spec, data, epochs, setup)
        losses.append(trained(spec, data, setup).curve[-1]["loss"])
    if max(losses) - min(losses) > LEARNT * abs(losses[0]):
        raise DisagreementError(f"in turn, stacked and abreast the clients' losses are {losses}")
    start = _net(spec, data, setup)
    clients = [plain.loader(data, BATCH, rows) for rows in torch.arange(len(data.train)).tensor_split(CLIENTS)]

    def baseline() -> float:
        nets = []
        for batches in clients:
            nets.append(copy.deepcopy(start))
            plain.train(nets[-1], torch.optim.Adam(nets[-1].parameters(), LR), batches, epochs)
        start_again = copy.deepcopy(start)
        start_again.load_state_dict(plain.averaged(nets))
        plain.accuracy(start_again, data)
        return epochs * len(data.train)

    return Contest(baseline, ways, _floor(start, data, setup))


def dp_sgd(model: str, some: float, setup: Setup) -> Contest:
    """Both draw Poisson batches, clip every example's gradient to the same norm and add the same noise."""
    noise = 1.0
    defense = ("defense=[dp_sgd]", "defense.dp_sgd.epsilon=null", f"defense.dp_sgd.noise_multiplier={noise}")
    clipped = f"defense.dp_sgd.max_grad_norm={CLIP}"
    spec, data, epochs = _run(setup, "central", model, *defense, clipped, some=some, epochs=2)
    start = _net(spec, data, setup)
    from opacus import PrivacyEngine  # here, for no other case needs it

    def baseline() -> float:
        net = copy.deepcopy(start).train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on random numbers that are not secure, and on hooks
            private, optimizer, batches = PrivacyEngine(accountant="rdp").make_private(
                module=net, optimizer=torch.optim.Adam(net.parameters(), LR), data_loader=plain.singles(data, BATCH),
                noise_multiplier=noise, max_grad_norm=CLIP,
            )  # fmt: skip
            plain.train(private, optimizer, batches, epochs)
        plain.accuracy(net, data)
        return epochs * len(data.train)

    return Contest(baseline, {"": _images(spec, data, epochs, setup)})


def defended(defense: str, model: str, setup: Setup) -> Contest:
    """The same training without the defence, and with it."""
    bare, data, epochs = _run(setup, "central", model)
    spec, _, _ = _run(setup, "central", model, f"defense=[{defense}]")
    return Contest(_images(bare, data, epochs, setup), {"": _images(spec, data, epochs, setup)})


_PLAIN = "or a plain TensorDataset loop"
_NAMES = {"lenet": "LeNet", "lenet_dlg": "DLG's LeNet", "dmlp": "the deep MLP", "smlp": "the shallow MLP"}
CASES = {
    **{
        f"central_{m}": Case(f"central training of {_NAMES[m]}, {_PLAIN}", "an image", partial(central, m))
        for m in ("lenet", "lenet_dlg", "dmlp")
    },
    **{
        f"seeds_{m}": Case(f"seeds of {_NAMES[m]} at once, or in turn", "an image", partial(seeds, m))
        for m in ("lenet", "dmlp")
    },
    **{
        f"fedavg_{m}": Case(f"a round of three clients, {_NAMES[m]}, {_PLAIN}", "an image", partial(fedavg, m))
        for m in ("lenet", "lenet_dlg", "smlp")
    },
    **{
        name: Case(f"DP-SGD on {_NAMES[m]}, or Opacus' make_private loop", "an image", partial(dp_sgd, m, some))
        for name, m, some in (
            ("dp_sgd", "lenet", 1),
            ("dp_sgd_lenet_dlg", "lenet_dlg", 1),
            ("dp_sgd_dmlp", "dmlp", 0.1),
        )
    },
    **{
        f"{d}{name}": Case(f"{_NAMES[m]} trained with {d}, or without", "an image", partial(defended, d, m))
        for d in ("noisy_gradients", "gradient_pruning", "gradient_quantization")
        for name, m in (("", "lenet"), ("_dmlp", "dmlp"))
    },
}
