"""Whether dataset, setting, attack and defences fit together, checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from privsweep.interface.defense import POINTS
from privsweep.interface.records import (
    Activations,
    Observation,
    Predictions,
    PropertyTrials,
    Release,
    Trials,
    Update,
    UpdateTrials,
)
from privsweep.interface.roles import Captures, Plants, WorksAround
from privsweep.run.run_spec import RunSpec


def refuse(spec: RunSpec) -> list[str]:
    """Why attack, setting and defences do not go together; empty where they do."""
    setting, attack, choice = spec.fl_setting, spec.attack, spec.choices
    complaints = []
    view = spec.view
    used = setting.training_calls | (view.calls if view else frozenset())
    for name, defense in spec.defense.defenses.items():
        if not defense.acts_at():
            complaints.append(
                f"defense={name}: overrides no point, so that it does nothing; the points are {', '.join(POINTS)}"
            )
        elif not defense.acts_at() & used:
            complaints.append(
                f"defense={name}: acts at {', '.join(sorted(defense.acts_at()))}, which "
                f"fl_setting={choice.get('fl_setting')} with attack={choice.get('attack')} never calls; remove it"
            )
    if spec.session.precision == "tf32":
        complaints += [
            f"precision=tf32: rounds what defense={name} clips, so that its bound on a gradient's norm would not hold; "
            "take float32, or bfloat16, which leaves that alone"
            for name, defense in spec.defense.defenses.items()
            if "example_gradients" in defense.acts_at()
        ]
    if reason := setting.refuses(spec.defense):
        complaints.append(f"defense=[{','.join(spec.defense.defenses)}]: {reason}")
    label = f"attack={choice.get('attack')}"
    if reason := _prior_fault(spec, label):
        complaints.append(reason)
    if reason := _canaries_fault(spec, label):
        complaints.append(reason)
    if attack.observes is None:
        return complaints
    if view is None:
        *several, last = (_seen(v.observation) for v in setting.views())
        shown = f"{', '.join(several)} and {last}" if several else last
        remedy = _SHOWS.get(attack.observes, "take a setting that exposes them")
        complaints.append(
            f"{label}: observes {_seen(attack.observes)}, fl_setting={choice.get('fl_setting')} exposes "
            f"{shown}; {remedy}"
        )
        return complaints
    lacking = attack.needs - view.grants - ({"prior"} if spec.has_prior else set())
    if lacking:
        remedies = "".join(f"; {_REMEDIES[name]}" for name in sorted(lacking & _REMEDIES.keys()))
        complaints.append(
            f"{label}: needs {', '.join(sorted(lacking))}, which fl_setting={choice.get('fl_setting')} does not grant"
            + remedies
        )
    if view.position not in attack.threat.positions:
        positions = ", ".join(sorted(attack.threat.positions))
        complaints.append(f"{label}: works from position {positions}; set fl_setting.position accordingly")
    if view.time not in attack.threat.times:
        times = " or ".join(sorted(attack.threat.times))
        complaints.append(
            f"{label}: works at {times} time, and what it looks at is seen at {view.time} time; take another fl_setting"
        )
    if isinstance(attack, Plants) and not isinstance(view, Captures):
        complaints.append(
            f"{label}: chooses the weights that victims are sent, and what fl_setting={choice.get('fl_setting')} "
            "exposes is not computed anew; take fl_setting=fedavg, fedsgd or central"
        )
    if reason := attack.refuses(view):
        complaints.append(f"{label}: {reason}")
    if isinstance(attack, WorksAround) and (reason := attack.without_effect(spec.defense.acts_at())):
        complaints.append(reason)
    return complaints


def _seen(observation: type[Observation]) -> str:
    """Such as "update trials"."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", observation.__name__).lower()


def _prior_fault(spec: RunSpec, label: str) -> str | None:
    """Why the dataset chosen as the adversary's own does not fit, or None."""
    if spec.prior is None:
        return None
    own = f"dataset@prior={spec.choices.get('dataset@prior')}"
    if "has_property" in spec.attack.needs:
        return f"{own}: of these images nobody knows which have the property; hold some out: dataset.prior_size=1000"
    if "prior" not in spec.attack.needs:
        return f"{own}: {label} uses no data of its own; leave it out"
    if same_images(spec.config):
        return (
            f"{own}: the victims' own dataset; to give the adversary images of the same kind that nobody trains on, "
            "set dataset.prior_size"
        )
    if spec.dataset.prior_size:
        return f"dataset.prior_size: the adversary's data come from {own} already; take 0"
    return None


def _canaries_fault(spec: RunSpec, label: str) -> str | None:
    """Why nobody would ask about the canaries, or None."""
    if count := getattr(spec.prior, "canaries", 0):
        return f"prior.canaries={count}: nobody is asked about the adversary's own data; take 0"
    count = getattr(spec.dataset, "canaries", 0)
    if count and spec.attack.observes not in (None, Predictions):
        return (
            f"dataset.canaries={count}: {label} asks about no record of a black box; take an attack that does, such as "
            "attack=loss_threshold or lira_online, or 0"
        )
    if getattr(spec.fl_setting, "canaries", False) and spec.attack.observes not in (None, Trials):
        return f"fl_setting.canaries=true: {label} asks for no membership; take attack=informed_membership, or false"
    return None


def same_images(config: Mapping[str, Any]) -> bool:
    """Whether the adversary's data come from the files of the target's, by whatever name or path."""
    return bool(config["dataset"]["fingerprint"] == config["prior"]["fingerprint"])


_REMEDIES = {
    "model": "set fl_setting.access=white_box, or take fl_setting=split",
    "server_part": "take fl_setting=collaborative_inference",
    "defense": "set attack.shadows_defended=false",
    "received": "set fl_setting.queries_kept=256",
    "labels": "set fl_setting.labels_known=true, or attack.labels=analytic",
    "prior": "give the adversary data: dataset@prior=<dataset>, or dataset.prior_size=1000 held out",
}
_SHOWS: dict[type[Observation], str] = {
    Update: "take fl_setting=fedavg, fedsgd or central",
    Activations: "take fl_setting=split",
    Predictions: "take fl_setting=fedavg, fedsgd, central, split or collaborative_inference",
    Release: "take fl_setting=release",
    Trials: "take fl_setting=release fl_setting.without=1",
    UpdateTrials: "take fl_setting=fedavg, fedsgd or central",
    PropertyTrials: "take fl_setting=fedavg, fedsgd or central",
}
