"""A stranger's value under every key of Hydra's part, and in every group: nothing is built of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from privsweep.interface.errors import UserError
from privsweep.run.build import build
from privsweep.run.compose import Composition, compose, searching
from privsweep.run.hydra_settings import check_hydra
from privsweep.run.overrides import NOTES
from privsweep.run.run_spec import GROUPS

HELP = ("hydra.help", "hydra.hydra_help")  # texts of several lines
VALUES: dict[str, Any] = {
    "class": {"_target_": "pathlib.Path.write_text", "_args_": ["ran"], "data": "x"},
    "class in a list": [[{"a": {"_target_": "evil.Class"}}]],
    "class of Hydra's": {"_target_": "hydra.utils.get_method", "path": "os.system"},
    "partial": {"_partial_": True},
    "second interpolation": "${oc.env:SECRET}",
    "line break": "x\ntouch ran",
    "separator": "x\u2028touch ran",
    "escape": "x\x1b]0;owned\x07",
    "key with a line break": {"x\ny": 1},
}
EVIL = {"_target_": "pathlib.Path.write_text", "_args_": ["ran"], "data": "x"}


@pytest.fixture(scope="module")
def plain() -> Composition:
    with searching(None):
        return compose(["attack=blind", "scale=smoke"])


def keys(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a nested configuration, those of its parts after it."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield (*path, key)
        if isinstance(value, Mapping | list):
            yield from keys(value, (*path, key))


def having(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = deepcopy(node)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


def checked(hydra: Mapping[str, Any]) -> None:
    check_hydra(hydra, (), "outputs", os.path.abspath("outputs/logs/job"))


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_no_key_under_hydra_takes_a_strangers_value(value: Any, plain: Composition) -> None:
    checked(plain.hydra)
    seen = 0
    for path in keys(plain.hydra):
        name = ".".join(map(str, ("hydra", *path)))
        if name.startswith(NOTES) or (name.startswith(HELP) and value == VALUES["line break"]):
            continue
        with pytest.raises(UserError):
            checked(having(plain.hydra, path, value))
        seen += 1
    assert seen > 60


@pytest.mark.parametrize("where", ["../ran", "/elsewhere/ran", "outputs/../../ran"])
def test_no_key_under_hydra_writes_elsewhere(where: str, plain: Composition) -> None:
    for path in (("run", "dir"), ("sweep", "dir"), ("job_logging", "handlers", "file", "filename")):
        with pytest.raises(UserError, match="leaves the output folder"):
            checked(having(plain.hydra, path, where))
    with pytest.raises(UserError, match="leaves the output folder"):
        checked(having(plain.hydra, ("sweep", "subdir"), f"../../../{where}"))


@pytest.mark.parametrize("group", [*GROUPS, "defense", "tracker", "metrics"])
def test_no_group_builds_a_strangers_class(group: str, plain: Composition) -> None:
    nested = {**plain.config.get("attack", {}), "nested": [[{"a": EVIL}]]}
    for node in (EVIL, nested, {"_target_": "privsweep.store.store.Store", "root": "ran"}):
        with pytest.raises(UserError):
            build(replace(plain, config={**plain.config, group: {"x": node} if group == "defense" else node}))
