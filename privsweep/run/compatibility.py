"""Whether dataset, setting, attack and defences go together: said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from privsweep.exposure.black_box import KNOWS as MEMBERSHIP_KNOWS
from privsweep.interface.records import Activations, Observation, Predictions, Update
from privsweep.interface.roles import Setting

if TYPE_CHECKING:
    from privsweep.run.build import RunSpec


def refuse(spec: RunSpec) -> list[str]:
    """Why attack, setting and defences do not go together; empty where they do."""
    setting, attack, choice = spec.fl_setting, spec.attack, spec.choices
    complaints = []
    used = _called(setting, attack.observes)
    for name, defense in spec.defense.defenses.items():
        if not defense.acts_at() & used:
            complaints.append(
                f"defense={name}: acts at {', '.join(sorted(defense.acts_at())) or 'no point'}, which "
                f"fl_setting={choice.get('fl_setting')} with attack={choice.get('attack')} never calls; remove it"
            )
    if reason := setting.refuses(spec.defense):
        complaints.append(reason)
    label = f"attack={choice.get('attack')}"
    if reason := _prior_fault(spec, label):
        complaints.append(reason)
    if attack.observes is None:
        return complaints
    if attack.observes not in (setting.exposes, Predictions):
        complaints.append(
            f"{label}: observes {attack.observes.__name__.lower()}, fl_setting={choice.get('fl_setting')} exposes "
            f"{setting.exposes.__name__.lower()}; {_SHOWS[attack.observes]}"
        )
        return complaints
    granted = set(MEMBERSHIP_KNOWS if attack.observes is Predictions else setting.knows())
    lacking = attack.needs - granted - ({"prior"} if spec.has_prior else set())
    if lacking:
        remedies = "".join(f"; {_REMEDIES[name]}" for name in sorted(lacking & _REMEDIES.keys()))
        complaints.append(
            f"{label}: needs {', '.join(sorted(lacking))}, which fl_setting={choice.get('fl_setting')} does not grant"
            + remedies
        )
    if spec.position not in attack.threat.positions:
        positions = ", ".join(sorted(attack.threat.positions))
        complaints.append(f"{label}: works from position {positions}; set fl_setting.position accordingly")
    reason = attack.refuses(setting)
    if reason:
        complaints.append(f"{label}: {reason}")
    return complaints


def _prior_fault(spec: RunSpec, label: str) -> str | None:
    """Why the dataset chosen as the adversary's own does not fit, or None."""
    if spec.prior is None:
        return None
    own = f"dataset@prior={spec.choices.get('dataset@prior')}"
    if "prior" not in spec.attack.needs:
        return f"{own}: {label} uses no data of its own; leave it out"
    if same_images(spec.config):
        return (
            f"{own}: the victims' own dataset; to give the adversary images of the same kind that nobody trains on, "
            "set dataset.prior_size"
        )
    if getattr(spec.dataset, "prior_size", 0):
        return f"dataset.prior_size: the adversary's data come from {own} already; take 0"
    return None


def same_images(config: Mapping[str, Any]) -> bool:
    """Whether the adversary's data come from the files of the target's."""
    target, prior = config["dataset"], config["prior"]
    return (target["fingerprint"], target["_target_"]) == (prior["fingerprint"], prior["_target_"])


_REMEDIES = {
    "labels": "set fl_setting.labels_known=true, or attack.labels=analytic",
    "prior": "give the adversary data: dataset@prior=<dataset>, or dataset.prior_size=1000 held out",
}
_SHOWS: dict[type[Observation], str] = {
    Update: "take fl_setting=fedavg, fedsgd or central",
    Activations: "take fl_setting=split",
}


def _called(setting: Setting, observes: type[Observation] | None) -> frozenset[str]:
    """The defence points of one run."""
    if observes is None:
        return setting.training_calls
    return setting.training_calls | {"predictions"} if observes is Predictions else setting.calls
