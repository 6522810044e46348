"""From a composed configuration to objects: below this module nobody knows of Hydra or OmegaConf."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from typing_extensions import get_protocol_members

from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Dataset
from privsweep.interface.errors import UserError
from privsweep.interface.roles import Attack, Setting
from privsweep.interface.tracker import Tracker
from privsweep.model.checkpoint import FromCheckpoint, split_weights
from privsweep.run.companions import told
from privsweep.run.compatibility import refuse
from privsweep.run.compose import Composition
from privsweep.run.declared import attack_faults, setting_faults
from privsweep.run.faults import faults
from privsweep.run.identity import identity_of
from privsweep.run.run_spec import GROUPS, RunSpec, Session
from privsweep.run.shape import strange_numbers, taken_otherwise
from privsweep.run.tracking import refused_tracker
from privsweep.run.trust import check_component, class_of, trusted, walk

ROLES = {
    "dataset": Dataset,
    "prior": Dataset,
    "model": Architecture,
    "fl_setting": Setting,
    "attack": Attack,
    "tracker": Tracker,
}


Made = dict[tuple[type, str], Any]  # components by their class and their values


def build(composed: Composition, fetch: bool = False, made: Made | None = None) -> RunSpec:
    """Builds every component and checks that they fit; raises UserError with all complaints at once.

    ``fetch``: whether datasets that are not there are downloaded, unless the run's result is stored. ``made``: what
    earlier calls made, for runs of one plan have most of their components in common.
    """
    with told(composed.brought):
        return _build(composed, fetch, {} if made is None else made)


def _build(composed: Composition, fetch: bool, known: Made) -> RunSpec:
    config = composed.config
    complaints: list[str] = []

    def make(key: str, node: Any) -> Any:
        try:
            if not isinstance(node, Mapping) or "_target_" not in node:
                hint = '; the first line of a defence\'s YAML is "# @package defense.NAME"' if "." in key else ""
                remedy = f"choose one that --help lists, or write _target_ into your YAML{hint}"
                raise UserError(f"{key}={node}: names no class under _target_; {remedy}")
            check_component(key, node)
            own = class_of(key, node["_target_"], trusted()), repr(node)
            if own in known:
                return known[own]
            made = instantiate(node, _convert_="all")
            wrong = [*_lacking(key, node, made), *strange_numbers(key, node), *taken_otherwise(key, node, made)]
            complaints.extend(wrong)
            if not wrong and _unchanging(made, node):
                known[own] = made
            return made
        except UserError as error:
            complaints.extend(error.args)
        except InstantiationException as error:
            complaints.extend(_complaints(key, node, error))
        except ValidationError as error:
            complaints.extend(faults(key, node, error))
        return None

    plain, checkpoint = split_weights(config.get("model"))
    nodes = {**config, "model": plain}
    parts: dict[str, Any] = {key: make(key, nodes[key]) if nodes.get(key) is not None else None for key in GROUPS}
    if checkpoint is not None:
        parts["model"] = FromCheckpoint(parts["model"], checkpoint)
    defenses = {name: make(f"defense.{name}", node) for name, node in (config["defense"] or {}).items()}
    scoring = make("metrics", {"_target_": "privsweep.run.run_spec.Scoring", **config["metrics"]})
    names = [f.name for f in dataclasses.fields(Session)]  # type: ignore[arg-type]
    session = make("", {"_target_": "privsweep.run.run_spec.Session", **{n: config[n] for n in names}})
    tracker = make("tracker", config["tracker"]) if config.get("tracker") is not None else None
    complaints.extend(refused_tracker(composed, tracker))
    if complaints:
        raise UserError(*complaints)
    identified = {**parts, "defense": defenses, "metrics": scoring, "seed": session.seed}
    spec = RunSpec(
        **parts,
        defense=Stack(defenses),
        scoring=scoring,
        session=session,
        config=identity_of(config, identified, fetch, session.force),
        choices={**{k: v for k, v in composed.choices.items() if k != "tracker"}, "defense": list(defenses)},
        tracker=tracker,
        brought=composed.brought,
    )
    refusal = refuse(spec)
    if refusal:
        raise UserError(*refusal)
    session.resolve_device()
    return spec


def _unchanging(made: Any, node: Mapping[str, Any]) -> bool:
    """Whether runs can share it: frozen, and without parts of which that is not known."""
    parameters = getattr(made, "__dataclass_params__", None)
    return (
        parameters is not None
        and parameters.frozen
        and sum("_target_" in part for _, part in walk(node, "") if isinstance(part, Mapping)) == 1
    )


def _lacking(key: str, node: Any, made: Any) -> list[str]:
    """What a component of the user's own misses of its role, or says wrongly of itself."""
    role = ROLES.get(key)
    missing = sorted(m for m in get_protocol_members(role) if not hasattr(made, m)) if role else []
    if not missing:
        told = attack_faults(made) if role is Attack else setting_faults(made) if role is Setting else ()
        return [f"{key}={node['_target_']}: {fault}" for fault in told]
    a, it = "an" if role in (Architecture, Attack) else "a", "it" if len(missing) == 1 else "them"
    return [f"{key}={node.get('_target_')}: has no {', '.join(missing)}; {a} {role.__name__} needs {it}"]  # type: ignore[union-attr]


def _complaints(key: str, node: Any, error: InstantiationException) -> list[str]:
    first: BaseException = error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return [str(cause)]
        if isinstance(cause, ValidationError):
            within = {path: part for path, part in walk(node, key) if isinstance(part, Mapping)} | {key: node}
            told = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else key
            inner = next(path for path in (told, f"{key}.{told}", key) if path in within)
            return faults(inner, within[inner], cause)  # of this component, or of one within it
        first, cause = cause, cause.__cause__
    said = (str(first).strip().splitlines() or ["no words"])[0]
    own = is_pydantic_dataclass(class_of(key, node["_target_"], trusted()))
    remedy = "correct the class" if own else "decorate the class with @privsweep.component"
    return [f"{key}={node['_target_']}: cannot be made ({type(first).__name__}: {said}); {remedy}"]
