"""The utility of the weights that are attacked, beside that of the model that training ends with."""

from __future__ import annotations

from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.utility import FINAL
from privsweep.metric.utility import utility
from privsweep.run.run_spec import RunSpec


def seen_utility(spec: RunSpec, system: System, data: Data, done: int | None, rng: Rng) -> dict[str, float]:
    """Of ``system`` after ``done`` rounds (None: the last), and where training went on, under ``final_`` of its end.

    The learning curve knows most rounds; what it does not, such as an untrained model, is measured: a pass over the
    data.
    """
    at = system.last if done is None else done
    ended = at == system.last
    if ended and (system.utility or not len(data.test)):
        return dict(system.utility)
    row = next((row for row in system.curve if row["round"] == at and "test_accuracy" in row), None)
    if row is not None:
        seen = {name: value for name, value in row.items() if name not in ("round", "loss")}
    else:
        net = spec.fl_setting.assembled(data.domain, spec.model, spec.defense, rng).to(data.train.labels.device)
        seen = utility(net, system.snapshots[at], data)
    return seen if ended else seen | {f"{FINAL}{name}": value for name, value in system.utility.items()}
