"""From a composed configuration to objects: below this module nobody knows of Hydra or OmegaConf."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import Field, ValidationError

from privsweep.defense.stack import Stack
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Dataset
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.records import Predictions
from privsweep.interface.roles import Attack, Setting
from privsweep.model.checkpoint import FromCheckpoint, split_weights
from privsweep.run.compatibility import refuse
from privsweep.run.compose import Composition
from privsweep.run.trust import check_component
from privsweep.store.checksums import Checksums
from privsweep.store.store import Store, signature

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
    config: Mapping[str, Any]  # all that can change a result
    choices: Mapping[str, Any]

    @property
    def signature(self) -> str:
        return signature(self.config)

    @property
    def has_prior(self) -> bool:
        """Whether the adversary has data of its own."""
        return self.prior is not None or getattr(self.dataset, "prior_size", 0) > 0

    @property
    def adversary_data(self) -> str | None:
        """In words, for the record."""
        if self.prior is not None:
            return f"training images of {self.choices.get('dataset@prior')}"
        held = getattr(self.dataset, "prior_size", 0)
        return f"{held} held-out training images of {self.choices.get('dataset')}" if held else None

    @property
    def position(self) -> str:
        """Where the adversary is: whoever asks a black box is off the path, whatever position the setting names."""
        return "off-path" if self.attack.observes is Predictions else self.fl_setting.position

    def training_setting(self) -> Setting:
        """The setting as training sees it: fields that only steer the exposure have a fixed value."""
        return dataclasses.replace(self.fl_setting, **self.fl_setting.exposure_fields)  # type: ignore[type-var]

    def training_defense(self) -> Stack:
        return self.defense.only(self.fl_setting.training_calls)

    def training_key(self, device: torch.device) -> dict[str, Any]:
        """Whatever determines the trained system."""
        setting = {k: v for k, v in self.config["fl_setting"].items() if k not in self.fl_setting.exposure_fields}
        return {
            "dataset": self.config["dataset"],
            "model": self.config["model"],
            "fl_setting": setting,
            "defense": [[name, self.config["defense"][name]] for name in self.training_defense().defenses],
            "seed": self.config["seed"],
            "device": device.type,
        }


def build(composed: Composition, fetch: bool = False) -> RunSpec:
    """Builds every component and checks that they fit; raises UserError with all complaints at once.

    ``fetch``: whether datasets that are not there are downloaded, unless the run's result is stored.
    """
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

    plain, checkpoint = split_weights(config.get("model"))
    nodes = {**config, "model": plain}
    parts: dict[str, Any] = {key: make(key, nodes[key]) if nodes.get(key) is not None else None for key in GROUPS}
    if checkpoint is not None:
        parts["model"] = FromCheckpoint(parts["model"], checkpoint)
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
        config=_settled_identity(config, parts, fetch),
        choices={**composed.choices, "defense": list(defenses)},
    )
    refusal = refuse(spec)
    if refusal:
        raise UserError("\n".join(refusal))
    session.resolve_device()
    return spec


def _settled_identity(config: Mapping[str, Any], parts: Mapping[str, Any], fetch: bool) -> dict[str, Any]:
    """The identity; a stored result is found without its data, any other run gets its data first with ``fetch``."""
    try:
        known = _identity(config, parts, False)
        stored = Store(Path(config["output_dir"])).complete(signature(known))
        if not fetch or (stored and not config["force"]):
            return known
    except AbsentError:
        if not fetch:
            raise
    return _identity(config, parts, fetch)


def _identity(config: Mapping[str, Any], parts: Mapping[str, Any], fetch: bool) -> dict[str, Any]:
    """The configuration less what cannot change a result; files count by content, not by place."""
    kept: dict[str, Any] = {key: config.get(key) for key in (*GROUPS, "defense", "metrics", "seed")}
    kept["defense"] = dict(kept["defense"] or {})
    checksums = Checksums(Path(config["output_dir"]))
    for key in ("dataset", "prior"):
        if kept[key] is not None:
            places = {k: v for k, v in kept[key].items() if k not in ("data_dir", "path")}
            kept[key] = {**places, "fingerprint": checksums.of(parts[key], fetch)}
    if isinstance(parts["model"], FromCheckpoint):
        kept["model"] = {**kept["model"], "weights": checksums.of(parts["model"].checkpoint, fetch)}
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
