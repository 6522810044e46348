"""Systems that differ in nothing but their seed are trained together before the runs that need them, on a GPU.

A small network leaves most of a GPU idle; on a CPU several processes are faster.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.memory import out_of_memory, release
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.replayed import launched
from privsweep.interface.roles import TrainsTogether
from privsweep.run.heartbeat import Heartbeat
from privsweep.run.run import load
from privsweep.run.run_spec import RunSpec
from privsweep.run.workbench import Workbench
from privsweep.store.spoilt import say
from privsweep.store.store import Store, signature

log = logging.getLogger(__name__)
KINDS = frozenset({"cuda"})  # of devices on which it pays


def train_ahead(specs: Sequence[RunSpec]) -> None:
    """For runs that are about to take turns. What cannot be trained together is left to the run that needs it."""
    for group in _groups(specs):
        try:
            _train(group)
        except UserError:
            pass  # the run that needs it says the same
        except Exception as error:
            log.exception("training together failed")
            why = "do not fit the memory" if out_of_memory(error) else f"failed ({type(error).__name__}: {error})"
            say(f"{len(group)} systems at once {why}; they are trained one after the other")
        release()


def _groups(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Of runs whose systems are not stored and differ in their seeds alone, one a system; several in each group."""
    found: dict[str, dict[int, RunSpec]] = {}
    for spec in specs:
        device = spec.session.resolve_device()
        key = spec.training_key(device)
        able = device.type in KINDS and isinstance(spec.fl_setting, TrainsTogether)
        if able and not Store(spec.session.output_dir).trained(key):
            found.setdefault(signature({**key, "seed": None}), {}).setdefault(spec.session.seed, spec)
    return [list(group.values()) for group in found.values() if len(group) > 1]


def _train(group: Sequence[RunSpec]) -> None:
    first, seeds = group[0], [spec.session.seed for spec in group]
    setting, device = first.training_setting(), first.session.resolve_device()
    assert isinstance(setting, TrainsTogether)
    data = load(first).data
    defense = first.training_defense().bind(setting.schedule(data, Rng(seeds[0])))
    with torch.device("meta"):
        net = setting.assembled(data.domain, first.model, defense, Rng(seeds[0]))
    if not setting.trains_together(net, defense):
        return
    if not all(_same(data, load(spec).data) for spec in group[1:]):
        return
    store, keys = Store(first.session.output_dir), [spec.training_key(device) for spec in group]
    sign = signature({"together": keys})
    title = f"{first.choices['model']} under seeds {', '.join(map(str, seeds))}"
    say(f"training {title} at once")
    with Heartbeat(store.root, sign, title) as heartbeat, launched(first.session.cuda_graphs):
        bench = Workbench(device, store, sign, heartbeat)
        with bench.phase("training"):
            systems = setting.train_together(data, first.model, defense, [Rng(seed) for seed in seeds], bench)
    for key, system in zip(keys, systems, strict=True):
        _file(store, key, device, system)
    store.forget_parts(sign)


def _file(store: Store, key: Mapping[str, Any], device: torch.device, system: System) -> None:
    store.system(key, device, lambda: system)


def _same(one: Data, other: Data) -> bool:
    """Whether they train and are measured on the same images: subsets are drawn by the seed."""
    splits = ((one.train, other.train), (one.test, other.test))
    return one.domain == other.domain and all(
        len(a) == len(b) and torch.equal(a.labels, b.labels) and torch.equal(a.images, b.images) for a, b in splits
    )
