"""Compositions of the groups at smoke scale, each group composed once and put together as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tiny import TINY

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import CONF, Composition, compose, searching
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_with_data

ALL = ("fl_setting=fedavg", "attack=none", "model=lenet", "defense=[]")  # named, so that no choice brings another
SIZES = ("dataset.train_size=60", "dataset.test_size=20", "dataset.prior_size=20", "scale=smoke")


@dataclass(frozen=True)
class Choice:
    """What is chosen of each group."""

    fl_setting: str
    attack: str
    defense: tuple[str, ...]
    model: str

    def __str__(self) -> str:
        groups = f"fl_setting={self.fl_setting} attack={self.attack} model={self.model}"
        return f"{groups} defense=[{','.join(self.defense)}]"


def offered(group: str) -> tuple[str, ...]:
    """The choices of a group that a user has."""
    return tuple(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


def composed(choice: Choice, values: Mapping[str, Any] | None = None) -> Composition:
    """As Hydra composes it; no group refers to another's values. ``values``: by dotted key, set afterwards."""
    base = _base()
    groups: dict[str, Any] = {name: _node(name, getattr(choice, name)) for name in ("fl_setting", "attack", "model")}
    defenses = {name: _node("defense", name) for name in choice.defense}
    config = {**base.config, **groups, "defense": defenses}
    for key, value in (values or {}).items():
        config = _with(config, key.split("."), value)
    named = {name: getattr(choice, name) for name in groups}
    return replace(base, config=config, choices={**base.choices, **named})


def checked(choice: Choice, data: Data, values: Mapping[str, Any] | None = None) -> RunSpec | tuple[str, ...]:
    """The run, ready to go, or the lines with which it is refused. Every other exception is a fault."""
    try:
        spec = build(composed(choice, values))
        prior = data.prior if spec.dataset.prior_size else None
        check_with_data(spec, data, prior, Rng(0))
    except UserError as error:
        return error.args
    return spec


def small_data() -> Data:
    """The images of all compositions."""
    return build(_base()).dataset.load(Rng(0))


@cache
def _base() -> Composition:
    with searching(None):
        return compose([*SIZES])


@cache
def _defenses() -> Mapping[str, Any]:
    with searching(None):
        return compose([*SIZES, *ALL[:-1], f"defense=[{','.join(offered('defense'))}]"]).config["defense"]


@cache
def _node(group: str, name: str) -> Any:
    """The configuration of one choice, small."""
    if group == "defense":
        return _defenses()[name]
    given = [*SIZES, f"{group}={name}", *(word for word in ALL if not word.startswith(f"{group}="))]
    if group == "fl_setting":
        given += [a for a in TINY if a.startswith(f"{group}.")]
    with searching(None):
        node = compose(given).config[group]
    return {**node, "width": 3} if "width" in node and group == "model" else node


def _with(node: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**node, first: _with(node[first], rest, value) if rest else value}
