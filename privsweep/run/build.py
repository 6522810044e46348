"""From a composed configuration to objects: below this module nobody knows of Hydra or OmegaConf."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import Field, ValidationError

from privsweep.defense.stack import Stack
from privsweep.interface.component import Outside, component, marked, without
from privsweep.interface.data import Architecture, Dataset
from privsweep.interface.errors import UserError
from privsweep.interface.roles import Attack, Setting, View
from privsweep.run.compatibility import refuse
from privsweep.run.compose import Composition
from privsweep.run.trust import check_component
from privsweep.store.store import signature

GROUPS = ("dataset", "prior", "model", "fl_setting", "attack")


@component
class Scoring:
    """How guesses are scored; the attack knows nothing of it."""

    paper_scale: Literal["zen", "precode"]  # pixel scale of the metrics with the suffix _paper
    asr_threshold: Annotated[float, Field(gt=0, le=1)]  # SSIM from which an image counts as reconstructed


@component
class Session:
    """What holds for the whole run."""

    seed: Annotated[int, Field(ge=0)]
    device: str
    threads: Annotated[int, Field(ge=1)] | None
    scale: Literal["paper", "quick", "smoke"]
    output_dir: Path
    force: bool
    plan: bool

    def resolve_device(self) -> torch.device:
        """The device in use; raises UserError for one that is not there."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise UserError(f"device={self.device}: no such device; choose auto, cpu, cuda or cuda:1") from error
        if device.type not in ("cpu", "cuda"):
            raise UserError(f"device={self.device}: not supported; choose auto, cpu, cuda or cuda:1")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise UserError(f"device={self.device}: {found} CUDA devices are visible here; choose auto or cpu")
        return device


@dataclass(frozen=True)
class RunSpec:
    """One run, ready to go."""

    dataset: Dataset
    prior: Dataset | None
    model: Architecture
    fl_setting: Setting
    attack: Attack
    defense: Stack
    scoring: Scoring
    session: Session
    config: Mapping[str, Any]  # all that says what is computed
    choices: Mapping[str, Any]

    @property
    def parts(self) -> Mapping[str, Any]:
        """The components by their key in ``config``."""
        return {key: getattr(self, key) for key in GROUPS}

    @cached_property
    def signature(self) -> str:
        return signature(less(self.config, self.parts, "signature"))

    @cached_property
    def view(self) -> View | None:
        """What the attack looks at; None where it attacks nothing, or the setting has no such view."""
        return next((v for v in self.fl_setting.views() if v.observation is self.attack.observes), None)

    @property
    def has_prior(self) -> bool:
        """Whether the adversary has data of its own."""
        return self.prior is not None or self.dataset.prior_size > 0

    @property
    def adversary_data(self) -> str | None:
        """In words, for the record."""
        if self.prior is not None:
            return f"training images of {self.choices.get('dataset@prior')}"
        held = self.dataset.prior_size
        return f"{held} held-out training images of {self.choices.get('dataset')}" if held else None

    @property
    def position(self) -> str:
        """Where the adversary is; where nothing is attacked, where one would usually be."""
        return (self.view or self.fl_setting.views()[0]).position

    def training_setting(self) -> Setting:
        """The setting as training sees it: without the fields that only steer the exposure."""
        return without(self.fl_setting, marked(self.fl_setting, "training"))

    def training_defense(self) -> Stack:
        return self.defense.only(self.fl_setting.training_calls)

    def training_key(self, device: torch.device) -> dict[str, Any]:
        """Whatever determines the trained system."""
        kept = less(self.config, self.parts, "signature", "training")
        return {
            **{key: kept[key] for key in ("dataset", "model", "fl_setting", "seed")},
            "defense": [[name, kept["defense"][name]] for name in self.training_defense().defenses],
            "device": device.type,
        }


def less(config: Mapping[str, Any], parts: Mapping[str, Any], *outside: Outside) -> dict[str, Any]:
    """``config`` without the fields of its components that are left out of these hashes."""
    return {key: _less(value, parts.get(key), outside) for key, value in config.items()}


def _less(node: Any, made: Any, outside: Sequence[Outside]) -> Any:
    if not isinstance(node, Mapping) or not hasattr(made, "__pydantic_fields__"):
        return node
    left_out = marked(made, *outside)
    return {k: _less(v, getattr(made, k, None), outside) for k, v in node.items() if k not in left_out}


def build(composed: Composition) -> RunSpec:
    """Builds every component and checks that they fit; raises UserError with all complaints at once."""
    config = composed.config
    complaints: list[str] = []

    def make(key: str, node: Any) -> Any:
        try:
            check_component(key, node)
            return instantiate(node, _convert_="all")
        except UserError as error:
            complaints.append(str(error))
        except InstantiationException as error:
            complaints.extend(_complaints(key, node, error))
        except ValidationError as error:
            complaints.extend(_lines(key, error))
        return None

    parts: dict[str, Any] = {key: make(key, config[key]) if config.get(key) is not None else None for key in GROUPS}
    defenses = {name: make(f"defense.{name}", node) for name, node in (config["defense"] or {}).items()}
    scoring = make("metrics", {"_target_": "privsweep.run.build.Scoring", **config["metrics"]})
    names = [f.name for f in dataclasses.fields(Session)]  # type: ignore[arg-type]
    session = make("", {"_target_": "privsweep.run.build.Session", **{n: config[n] for n in names}})
    for key in ("dataset", "model", "fl_setting", "attack"):
        if config.get(key) is None:
            complaints.append(f"{key}=null: must be chosen; privsweep --help lists the choices")
    if complaints:
        raise UserError("\n".join(complaints))
    spec = RunSpec(
        **parts,
        defense=Stack(defenses),
        scoring=scoring,
        session=session,
        config=_identity(config, parts),
        choices={**composed.choices, "defense": list(defenses)},
    )
    refusal = refuse(spec)
    if refusal:
        raise UserError("\n".join(refusal))
    session.resolve_device()
    return spec


def _identity(config: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration less what cannot change a result; files count by content, not by place."""
    kept: dict[str, Any] = {key: config.get(key) for key in (*GROUPS, "defense", "metrics", "seed")}
    kept["defense"] = dict(kept["defense"] or {})
    for key in ("dataset", "prior"):
        if kept[key] is not None:
            places = {k: v for k, v in kept[key].items() if k not in ("data_dir", "path")}
            kept[key] = {**places, "fingerprint": parts[key].fingerprint()}
    # A dictionary is unordered once it is JSON with sorted keys, and the order of defences matters.
    kept["defense_order"] = list(kept["defense"])
    return kept


def _complaints(key: str, node: Any, error: InstantiationException) -> list[str]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return [str(cause)]
        if isinstance(cause, ValidationError):
            inner = str(error).rsplit("full_key: ", 1)
            return _lines(inner[1].strip() if len(inner) > 1 else key, cause)
        cause = cause.__cause__
    return [f"{key}={node.get('_target_')}: {str(error).splitlines()[0]}"]


def _lines(key: str, error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in (key, *problem["loc"]) if part != "")
        if problem["type"] == "unexpected_keyword_argument":
            lines.append(f"{path}: no such key; privsweep --cfg job lists the keys")
        elif problem["type"].startswith("missing"):
            lines.append(f"{path}: has no value; set it")
        else:
            message = problem["msg"]
            lines.append(f"{path}={problem['input']}: {message[:1].lower()}{message[1:]}")
    return lines
