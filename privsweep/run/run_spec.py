"""One run, checked and ready to go, and the hashes under which its result and its parts are found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from privsweep.defense.stack import Stack
from privsweep.interface.component import Outside, component, marked, without
from privsweep.interface.contents import Contents
from privsweep.interface.data import Architecture, Dataset
from privsweep.interface.errors import UserError
from privsweep.interface.records import OF_RELEASED_MODELS, Schedule
from privsweep.interface.roles import Attack, Captures, Setting, View
from privsweep.interface.rounding import Precision
from privsweep.interface.tracker import Tracker
from privsweep.store.store import signature

GROUPS = ("dataset", "prior", "model", "fl_setting", "attack")


@component
class Scoring:
    """How guesses are scored; the attack knows nothing of it."""

    paper_scale: (
        Literal["zen", "precode"] | None
    )  # pixel scale of the metrics with the suffix _paper; None: there are none
    asr_threshold: Annotated[float, Field(gt=0, le=1)]  # SSIM from which an image counts as reconstructed


@component
class Session:
    """What holds for the whole run."""

    seed: Annotated[int, Field(ge=0)]
    device: str
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    at_once: Annotated[int, Field(ge=1, le=1024)] | None  # runs of a sweep, on this machine
    precision: Precision  # of products and convolutions
    cuda_graphs: bool  # repeated work is recorded and replayed
    compiled: bool  # on a CPU, what C code there is runs, if a compiler is found
    scale: Literal["paper", "half", "quick", "smoke"]
    output_dir: Path
    force: bool
    plan: bool
    objective: Annotated[str, Field(pattern=r"^(attack|(metrics|utility|seconds)\.\w+)$")]  # what a search goes by
    verbose: bool  # show every metric
    summary: list[str] | None  # numbers that the summary of a sweep shows, in this order
    wait: bool
    fail_fast: bool

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
    tracker: Tracker | None
    brought: Mapping[str, Sequence[str]]  # by what was typed, such as attack=iga, the overrides that came with it

    @property
    def parts(self) -> Mapping[str, Any]:
        """The components by their key in ``config``; of the defence, by their names."""
        return {**{key: getattr(self, key) for key in GROUPS}, "defense": self.defense.defenses}

    @property
    def contents(self) -> list[Contents]:
        """The components that read files."""
        return [part for part in self.parts.values() if isinstance(part, Contents)]

    @cached_property
    def signature(self) -> str:
        return signed(self.config, self.parts)

    @cached_property
    def view(self) -> View | None:
        """What the attack looks at; None where it attacks nothing, or the setting has no such view."""
        return view_of(self.fl_setting, self.attack)

    @property
    def has_prior(self) -> bool:
        """Whether the adversary has data of its own."""
        return self.prior is not None or self.dataset.prior_size > 0

    @property
    def knows_training_data(self) -> bool:
        """Whether the adversary is given the training data themselves, having none of its own."""
        return not self.has_prior and self.view is not None and "prior" in self.view.grants

    @property
    def adversary_data(self) -> str | None:
        """In words, for the record."""
        if self.knows_training_data:
            return f"the training images of {self.choices.get('dataset')}"
        if self.prior is not None:
            return f"training images of {self.choices.get('dataset@prior')}"
        held = self.dataset.prior_size
        return f"{held} held-out training images of {self.choices.get('dataset')}" if held else None

    @property
    def position(self) -> str:
        """Where the adversary is; where nothing is attacked, where one would usually be."""
        return (self.view or self.fl_setting.views()[0]).position

    @property
    def time(self) -> str:
        """When the adversary looks; where nothing is attacked, when one usually would."""
        return (self.view or self.fl_setting.views()[0]).time

    @property
    def rounding(self) -> dict[str, Any]:
        """How products are rounded, for the keys of whatever is computed; nothing where they are not."""
        return {key: self.config[key] for key in ("precision",) if key in self.config}

    def covers(self, defense: str) -> str:
        """Whom a defence's privacy budget covers: the adversary with what it sees, or who has the released model alone.

        Where nothing is attacked, the adversary is the usual one, who gets the messages of the training. A captured one
        is none of these: whose data are behind it is known, and no sampling hides them.
        """
        if self.view is not None:
            covered = self.view.observation in OF_RELEASED_MODELS
        else:
            covered = self.defense.defenses[defense].covers(self.fl_setting.views()[0].calls)
        return "what the adversary sees" if covered else "released model"

    def budgets(self, defense: Stack, schedule: Schedule) -> dict[str, dict[str, float]]:
        """What a training costs of a privacy budget, by name of the defences, which are bound to it.

        ``captured_epsilon`` is what a captured message with their noise costs by itself, of an image behind it.
        """
        found, view = defense.budgets(schedule), self.view
        if isinstance(view, Captures):
            for name, alone in defense.budgets(view.message).items():
                if defense.defenses[name].covers(view.calls):
                    told = found.setdefault(name, {"delta": alone["delta"]})
                    told["captured_epsilon"] = alone["epsilon"]
        return found

    def training_setting(self) -> Setting:
        """The setting as training sees it: without the fields that only steer the exposure."""
        return without(self.fl_setting, marked(self.fl_setting, "training"))

    def training_defense(self) -> Stack:
        return self.defense.only(self.fl_setting.training_calls)

    def training_key(self, device: torch.device) -> dict[str, Any]:
        """Whatever determines the trained system."""
        kept = less(self.config, self.parts, "signature", "training")
        made = {
            "dataset": self.dataset, "model": self.model, "fl_setting": self.fl_setting,
            "defense": self.training_defense().defenses,
        }  # fmt: skip
        return {
            **{key: kept[key] for key in ("dataset", "model", "fl_setting", "seed")},
            "defense": [[name, kept["defense"][name]] for name in self.training_defense().defenses],
            "device": device.type,
            **self.rounding,
            **versions(made),
        }


def signed(config: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """The signature of a run: of its configuration, and of the versions of its parts and of what its attack sees."""
    view = view_of(parts["fl_setting"], parts["attack"])
    return signature({**less(config, parts, "signature"), **versions({**parts, "view": view})})


def versions(parts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """For a hash: under ``versions`` those of ``parts`` whose results have changed since they were first stored.

    A component says so by an integer ``version``, for its own configuration, or by ``version_with`` the model; where
    there is none, or 0, it is left out.
    """
    defenses = parts.get("defense") or {}
    each = {f"defense.{name}": one for name, one in defenses.items()}
    plain = {**parts, "defense": Stack(defenses), **each}
    found = {key: v for key, made in plain.items() if (v := _version(made, parts.get("model")))}
    return {"versions": found} if found else {}


def _version(made: Any, model: Any) -> int:
    told = getattr(made, "version_with", None)
    found: int = getattr(made, "version", 0) if told is None else told(model)
    return found


def view_of(setting: Setting, attack: Attack) -> View | None:
    """What the attack looks at; None where it attacks nothing, or the setting has no such view."""
    return next((v for v in setting.views() if v.observation is attack.observes), None)


def less(config: Mapping[str, Any], parts: Mapping[str, Any], *outside: Outside) -> dict[str, Any]:
    """``config`` without the fields of its components that are left out of these hashes."""
    if not config.get("defense"):
        outside = (*outside, "undefended")
    return {key: _less(value, parts.get(key), outside) for key, value in config.items()}


def _less(node: Any, made: Any, outside: Sequence[Outside]) -> Any:
    if not isinstance(node, Mapping) or not hasattr(made, "__pydantic_fields__"):
        return node
    left_out = marked(made, *outside) | {k for k in marked(made, "zero") if node.get(k) in (0, [])}
    return {k: _less(v, getattr(made, k, None), outside) for k, v in node.items() if k not in left_out}
