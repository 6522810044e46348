"""The utility of the weights that are attacked, beside that of the model that training ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.utility import FINAL
from privsweep.metric.utility import utility
from privsweep.run.run_spec import RunSpec

_JUDGED = (
    2000  # examples of a split: a wide network's pass over all costs far more than the attack, for a chance result
)


@dataclass(frozen=True)
class Seen:
    """Numbers by name, and on how many examples of a split they were measured where that is not all of it."""

    utility: Mapping[str, float]
    judged: Mapping[str, int] = field(default_factory=dict)


def seen_utility(spec: RunSpec, system: System, data: Data, done: int | None, rng: Rng) -> Seen:
    """Of ``system`` after ``done`` rounds (None: the last), and where training went on, under ``final_`` of its end.

    The learning curve knows most rounds; what it does not, such as an untrained model, is measured on some examples.
    """
    at = system.last if done is None else done
    ended = at == system.last
    if ended and (system.utility or not len(data.test)):
        return Seen(dict(system.utility))
    final = {} if ended else {f"{FINAL}{name}": value for name, value in system.utility.items()}
    row = next((row for row in system.curve if row["round"] == at and "test_accuracy" in row), None)
    if row is not None:
        return Seen({name: value for name, value in row.items() if name not in ("round", "loss")} | final)
    net = spec.fl_setting.assembled(data.domain, spec.model, spec.defense, rng).to(data.train.labels.device)
    some, judged = _some(data, rng.child("utility"))
    return Seen(utility(net, system.snapshots[at], some) | final, judged)


def _some(data: Data, rng: Rng) -> tuple[Data, dict[str, int]]:
    """At most ``_JUDGED`` examples of each split, drawn at random, and how many of those that are larger."""
    device = data.train.labels.device
    parts, judged = {}, {}
    for name in ("train", "test"):
        split = getattr(data, name)
        if len(split) > _JUDGED:
            chosen = rng.child(name).permutation(len(split))[:_JUDGED]
            parts[name], judged[f"judged_{name}"] = split.take(chosen.to(device)), _JUDGED
    return replace(data, **parts), judged
