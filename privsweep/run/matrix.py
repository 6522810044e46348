"""Which settings, attacks, defences and models go together: asked of the checks that every run passes.

Every choice is composed once; runs are put together from their parts. A pair that is refused is tried again with what
a user can add to it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from privsweep.defense.stack import Stack
from privsweep.run.build import build
from privsweep.run.checked_loader import CheckedLoader
from privsweep.run.companions import as_overrides, companions
from privsweep.run.compatibility import refuse
from privsweep.run.compose import CONF, Composition, compose, parse, searching
from privsweep.run.matrix_data import Asked, images, sentences
from privsweep.run.run_spec import RunSpec
from privsweep.run.trust import check_component

RUNS = "●"
SENTENCES = "s"
# What a user can add, by its letter in the grids: the part, the field and the value.
ADDED: dict[str, tuple[str, str, Any]] = {
    "p": ("dataset", "prior_size", 2000),
    "l": ("fl_setting", "labels_known", True),
    "w": ("fl_setting", "without", 1),
    "h": ("fl_setting", "access", "white_box"),
}


@dataclass
class Grid:
    """Rows and columns by name; a cell is ``RUNS``, letters of what to add, or the number of a reason."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """All grids; reasons are numbered from 1. ``brings``: by choice, what it brings, with amounts of scale=paper."""

    grids: Sequence[Grid]
    reasons: Sequence[str]
    brings: Mapping[str, Sequence[str]] = field(default_factory=dict)


def matrix(config_dir: str | None = None) -> Matrix:
    """The grids of everything that is configured, the user's own choices included. Raises UserError."""
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    names = {group: choices(group, folders) for group in ("fl_setting", "attack", "defense", "model")}
    with searching(config_dir):
        world = World(names)
        reasons: list[str] = []
        grids = [world.attacks(reasons), world.defenses(reasons), world.models(reasons)]
        return Matrix(grids, reasons, _brings(names))


def choices(group: str, folders: Sequence[Path]) -> list[str]:
    """The choices of a group, by name."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


class World:
    """The parts of all runs, each built once, and which attack goes with which setting."""

    def __init__(self, names: Mapping[str, Sequence[str]]):
        self.names = names
        self.incomplete = {name for name in names["fl_setting"] if mandatory("fl_setting", name)}
        self.specs = dict(_built(names))
        self.base = self.specs["base", ""]
        self.fits: dict[str, list[RunSpec]] = {}  # attack: runs that put it to a setting, with what is added

    def attacks(self, reasons: list[str]) -> Grid:
        grid = Grid("attacks (rows) and settings", self.names["attack"], self.names["fl_setting"])
        for attack in grid.rows:
            for setting in grid.columns:
                spec = self._of(attack=attack, fl_setting=setting)
                found, added, refusal = _tried(spec)
                grid.cells[attack, setting] = _number(refusal, spec, reasons) if refusal else added or RUNS
                if found is not None:
                    self.fits.setdefault(attack, []).append(found)
        return grid

    def defenses(self, reasons: list[str]) -> Grid:
        """Every defence in every setting, whatever of it an attack looks at."""
        seen: dict[str, RunSpec] = {}
        for specs in self.fits.values():
            for spec in specs:
                what = spec.attack.observes.__name__.lower() if spec.attack.observes else "nothing"
                seen.setdefault(f"{spec.choices['fl_setting']}: {what}", spec)
        grid = Grid("what an attack looks at (rows) and defences", sorted(seen), self.names["defense"])
        for row in grid.rows:
            for name in grid.columns:
                defense, choice = self.specs["defense", name].defense, {**seen[row].choices, "defense": [name]}
                spec = dataclasses.replace(seen[row], defense=defense, choices=choice)
                refusal = refuse(spec)
                grid.cells[row, name] = _number(refusal[0], spec, reasons) if refusal else RUNS
        return _merged(grid)

    def models(self, reasons: list[str]) -> Grid:
        """Every model under every attack, in the first setting that suits the attack, on images and sentences."""
        grid = Grid("attacks (rows) and models, on images of 3x32x32 pixels", [*self.fits], self.names["model"])
        asked = {"": Asked(images()), SENTENCES: Asked(sentences())}
        for attack, fitting in self.fits.items():
            specs = sorted(fitting, key=lambda spec: spec.choices["fl_setting"] in self.incomplete)
            for name in grid.columns:
                model = self.specs["model", name].model
                spec = dataclasses.replace(specs[0], model=model, choices={**specs[0].choices, "model": name})
                tried = [(spec, ""), *((_with(spec, letter), letter) for letter in _addable(spec))]
                ways = ((given, kind, letter + more) for letter, kind in asked.items() for given, more in tried)
                good = next((signs or RUNS for given, kind, signs in ways if kind.unfit(given) is None), None)
                grid.cells[attack, name] = good or _number(asked[""].unfit(spec) or "", spec, reasons)
        return grid

    def _of(self, **names: str) -> RunSpec:
        parts: dict[str, Any] = {group: getattr(self.specs[group, name], group) for group, name in names.items()}
        return dataclasses.replace(self.base, **parts, choices={**self.base.choices, **names})


def _built(names: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, str], RunSpec]]:
    """One run of every choice by group and name, in which it may not fit the rest, and the run of the defaults."""
    small = "scale=smoke"  # so that few data suffice
    base = build(compose([small]))
    yield ("base", ""), base
    for place in range(max(map(len, names.values()))):
        here = {group: found[place] for group, found in names.items() if place < len(found)}
        given = [f"{group}={f'[{name}]' if group == 'defense' else name}" for group, name in here.items()]
        needed = [key for group, name in here.items() for key in mandatory(group, name)]
        composed = compose([small, *given, *(f"{key}=given" for key in needed)])
        for group, name in here.items():
            yield (group, name), _alone(composed, base, group)


def mandatory(group: str, name: str) -> list[str]:
    """Keys that the file of a choice leaves to the user, such as a path of its own."""
    found = _loader().repository.load_config(f"{group}/{name}")
    node: Any = found.config if found else {}
    return [f"{group}.{key}" for key in node if OmegaConf.is_missing(node, key)]


def _brings(names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    typed = [f"{group}={f'[{n}]' if group == 'defense' else n}" for group, found in names.items() for n in found]
    each = (companions(parse([one]), _loader().stated) for one in typed)
    full = re.compile(r"\$\{at_scale:([^,}]*),[^}]*\}")  # the amount at scale=paper
    of = ((choice, as_overrides(values)) for brought in each for choice, values in brought.items())
    return {choice: [full.sub(r"\1", one) for one in overrides] for choice, overrides in of}


def _loader() -> CheckedLoader:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, CheckedLoader)
    return loader


def _alone(composed: Composition, base: RunSpec, group: str) -> RunSpec:
    """``base`` with one group of another composition."""
    node = composed.config[group]
    if group == "defense":
        return dataclasses.replace(base, defense=Stack({k: _component(f"defense.{k}", v) for k, v in node.items()}))
    plain = {k: v for k, v in node.items() if k != "weights"} if group == "model" else node
    return dataclasses.replace(base, **{group: _component(group, plain)})


def _component(key: str, node: Any) -> Any:
    check_component(key, node)
    return instantiate(node, _convert_="all")


def _tried(spec: RunSpec) -> tuple[RunSpec | None, str, str | None]:
    """The run with the least that has to be added for it, the letters of that, and else why it is refused."""
    plain = refuse(spec)
    if not plain:
        return spec, "", None
    for letters in (some for count in (1, 2) for some in combinations(_addable(spec), count)):
        more = spec
        for letter in letters:
            more = _with(more, letter)
        if not refuse(more):
            return more, "".join(letters), None
    return None, "", plain[0]


def _merged(grid: Grid) -> Grid:
    """Rows of one setting that say the same are one."""
    same: dict[tuple[str, ...], list[str]] = {}
    for row in grid.rows:
        setting = row.partition(": ")[0]
        same.setdefault((setting, *(grid.cells[row, column] for column in grid.columns)), []).append(row)
    merged = Grid(grid.title, [], grid.columns)
    for (setting, *cells), rows in same.items():
        label = f"{setting}: {', '.join(row.partition(': ')[2] for row in rows)}"
        merged.rows = [*merged.rows, label]
        merged.cells |= {(label, column): cell for column, cell in zip(grid.columns, cells, strict=True)}
    return merged


def _addable(spec: RunSpec) -> list[str]:
    """The letters of what the run's parts have a field for."""
    fields = {part: getattr(getattr(spec, part), "__pydantic_fields__", {}) for part in ("dataset", "fl_setting")}
    return [letter for letter, (part, name, _) in ADDED.items() if name in fields[part]]


def _with(spec: RunSpec, letter: str) -> RunSpec:
    part, name, value = ADDED[letter]
    return dataclasses.replace(spec, **{part: dataclasses.replace(getattr(spec, part), **{name: value})})


def _number(reason: str, spec: RunSpec, reasons: list[str]) -> str:
    """A reason's number; what is said of several attacks, settings or defences alike is one reason."""
    said = re.sub(r"^(attack|defense|model)=\[?[\w,]+\]?: ", "", reason)
    for group, word in (("fl_setting", "the setting"), ("attack", "the attack")):
        said = re.sub(
            rf"\b{group}={re.escape(str(spec.choices[group]))} (?=exposes|does not grant|with|never)", f"{word} ", said
        )
    if said not in reasons:
        reasons.append(said)
    return str(reasons.index(said) + 1)
