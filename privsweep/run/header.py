"""What is said of a run before anything is computed: its title, and the head of its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from privsweep.store.store import Record

if TYPE_CHECKING:  # a stored run is told of without PyTorch
    from privsweep.run.run_spec import RunSpec


def title_of(choices: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The composition in a few words; of choices that stand for many, such as torchvision's models, the one."""
    names = {group: _name(choice, config.get(group)) for group, choice in choices.items()}
    defended = "+".join(choices["defense"]) or "no defence"
    return f"{names['attack']} on {names['dataset']}, {names['model']}, {names['fl_setting']}, {defended}"


def _name(choice: Any, config: Any) -> Any:
    return config.get("name", choice) if isinstance(config, Mapping) else choice


def threat_of(spec: RunSpec) -> dict[str, Any]:
    threat = spec.attack.threat
    return {
        "time": spec.time,
        "position": spec.position,
        "access": threat.access,
        "security": threat.security,
        **({"adaptive": True} if threat.adaptive and spec.defense.defenses else {}),
    }


def header_of(spec: RunSpec, sign: str) -> Record:
    return {
        "signature": sign,
        "choices": dict(spec.choices),
        "scale": spec.session.scale,
        "threat_model": threat_of(spec),
        **({"adversary_data": spec.adversary_data} if "prior" in spec.attack.needs else {}),
        "config": dict(spec.config),
    }
