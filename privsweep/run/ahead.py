"""Systems that train alike are trained together before the runs that need them, on a GPU.

They differ in their seed, or in what a defence makes of a step's gradient.
A small network leaves most of a GPU idle; on a CPU several processes are faster.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
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
_MOST = 16  # systems at once; what each does in a step is recorded


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
    """Of runs whose systems are not stored and train alike, one a system."""
    found: dict[str, dict[str, RunSpec]] = {}
    for spec in specs:
        device = spec.session.resolve_device()
        key = spec.training_key(device)
        able = device.type in KINDS and isinstance(spec.fl_setting, TrainsTogether)
        if able and not Store(spec.session.output_dir).trained(key):
            defense = None if spec.training_defense().acts_at() <= {"gradient"} else key["defense"]
            kind = signature({**key, "seed": None, "defense": defense})
            found.setdefault(kind, {}).setdefault(signature(key), spec)
    return [list(group.values()) for group in found.values()]


def _train(group: Sequence[RunSpec]) -> None:
    if len(group) == 1:
        return
    first = group[0]
    setting, device = first.training_setting(), first.session.resolve_device()
    assert isinstance(setting, TrainsTogether)
    data = load(first).data
    bound: dict[str, Defense] = {}  # those that are the same are one
    for spec in group:
        if (told := _defense(spec)) not in bound:
            bound[told] = spec.training_defense().bind(setting.schedule(data, Rng(spec.session.seed)))
    with torch.device("meta"):
        net = setting.assembled(data.domain, first.model, bound[_defense(first)], Rng(first.session.seed))
    with launched(first.session.cuda_graphs):
        able = setting.trains_together(net, list(bound.values()), device)
    if not able and len(bound) > 1:  # seeds of one defence may be
        for told in bound:
            _train([spec for spec in group if _defense(spec) == told])
    others = {spec.session.seed: spec for spec in group if spec.session.seed != first.session.seed}
    if not able or not all(_same(data, load(spec).data) for spec in others.values()):
        return
    for part in _parts(group):
        _train_part(part, setting, data, [bound[_defense(spec)] for spec in part])


def _train_part(group: Sequence[RunSpec], setting: TrainsTogether, data: Data, defenses: Sequence[Defense]) -> None:
    first, device = group[0], group[0].session.resolve_device()
    store, keys = Store(first.session.output_dir), [spec.training_key(device) for spec in group]
    sign, title = signature({"together": keys}), _title(group)
    with store.lock(f"run-{sign}", f"waiting for another process that trains {title} at once"):
        left = [k for k, key in enumerate(keys) if not store.trained(key)]
        if len(left) == len(group):
            say(f"training {title} at once")
            with Heartbeat(store.root, sign, title) as heartbeat, launched(first.session.cuda_graphs):
                bench = Workbench(device, store, sign, heartbeat, first.rounding)
                with bench.phase("training"):
                    rngs = [Rng(spec.session.seed) for spec in group]
                    systems = setting.train_together(data, first.model, defenses, rngs, bench)
            for key, system in zip(keys, systems, strict=True):
                _file(store, key, device, system)
            left = []
        store.forget_parts(sign)
    if len(left) > 1:
        _train_part([group[k] for k in left], setting, data, [defenses[k] for k in left])


def _parts(group: Sequence[RunSpec]) -> list[Sequence[RunSpec]]:
    """Of about one size."""
    count = -(-len(group) // _MOST)
    return [group[k * len(group) // count : (k + 1) * len(group) // count] for k in range(count)]


def _defense(spec: RunSpec) -> str:
    return signature({"defense": spec.training_key(spec.session.resolve_device())["defense"]})


def _title(group: Sequence[RunSpec]) -> str:
    """Such as "lenet_dlg under seeds 0, 1 and 3 defences"."""
    seeds, defenses = sorted({spec.session.seed for spec in group}), {_defense(spec) for spec in group}
    told = f"{group[0].choices['model']} under seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return told if len(defenses) == 1 else f"{told} and {len(defenses)} defences"


def _file(store: Store, key: Mapping[str, Any], device: torch.device, system: System) -> None:
    store.system(key, device, lambda: system)


def _same(one: Data, other: Data) -> bool:
    """Whether they train and are measured on the same examples: subsets are drawn by the seed."""
    splits = ((one.train, other.train), (one.test, other.test))
    return one.domain == other.domain and all(
        type(a) is type(b) and all(torch.equal(t, vars(b)[name]) for name, t in vars(a).items()) for a, b in splits
    )
