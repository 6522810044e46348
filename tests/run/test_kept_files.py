"""What compositions share is kept, and nobody can tell but for the time."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from privsweep.interface.errors import UserError
from privsweep.run.checked_loader import CheckedLoader
from privsweep.run.compose import compose, searching
from privsweep.run.copies import copied

TYPED = (
    ["dataset=mnist", "attack=iga", "attack.iterations=7", "seed=3"],
    ["defense=[dp_sgd,precode]", "defense.dp_sgd.epsilon=2.0", "+table.title=mine"],
    ["experiment=zen/table9", "scale=quick", "cell=mnist"],
    ["attack=iga", "hydra.run.dir=elsewhere"],
    ["attack=lira_online", "dataset@prior=mnist", "prior.train_size=5"],
    ["attack.guess=grey", "attack=blind", "++table={title: mine}"],
)


@pytest.mark.parametrize("typed", TYPED, ids=" ".join)
def test_it_is_what_hydra_composes_of_all_at_once(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def composed() -> str:
        cfg = found.config_loader.load_configuration("config", typed, RunMode.RUN, from_shell=False)
        return re.sub(r"\d{4}-[\d_-]+", "<now>", OmegaConf.to_yaml(cfg))

    with searching(None) as found:
        first, again = composed(), composed()
        monkeypatch.setattr(CheckedLoader, "_load_configuration_impl", ConfigLoaderImpl._load_configuration_impl)
        assert first == again == composed()


def test_a_file_that_changes_comes_or_goes_is_read_again(tmp_path: Path) -> None:
    def guess() -> Any:
        with searching(str(tmp_path)):
            return compose(["attack=mine"]).config["attack"]["guess"]

    own = tmp_path / "attack" / "mine.yaml"
    own.parent.mkdir()
    with pytest.raises(UserError, match="attack=mine: no such choice"):
        guess()
    own.write_text("defaults: [blind]\nguess: grey\n")
    assert guess() == "grey"
    own.write_text("defaults: [blind]\nguess: noise\n")
    assert guess() == "noise"
    base = own.with_name("base.yaml")
    own.write_text("defaults: [base]\n")
    with pytest.raises(UserError, match=r"Could not load .attack/base"):
        guess()
    for word in ("grey", "noise"):
        base.write_text(f"_target_: privsweep.attack.blind.Blind\nguess: {word}\n")
        assert guess() == word
    base.unlink()
    with pytest.raises(UserError, match=r"Could not load .attack/base"):
        guess()


def test_what_a_composition_gets_is_its_own() -> None:
    with searching(None) as found:
        load = found.config_loader.load_configuration
        first = load("config", ["seed=3"], RunMode.RUN, from_shell=False)
        with open_dict(first):
            first.attack.guess = "altered"
            first.further = 1
        again = load("config", ["seed=4"], RunMode.RUN, from_shell=False)
    assert again.seed == 4
    assert "further" not in again
    assert again.attack.get("guess") != "altered"
    assert list(again.hydra.overrides.task) == ["seed=4"]


def test_a_copy_is_a_deep_copy() -> None:
    made = OmegaConf.create({"a": {"b": [1, {"c": "${a.d}"}, None], "d": "???"}, "e": "${a}"}, flags={"struct": True})
    made.a._set_flag("readonly", True)
    one, other = copied(made), deepcopy(made)
    assert one == other == made
    assert [OmegaConf.is_struct(node) for node in (one, one.a, one.a.b)] == [True] * 3
    assert [OmegaConf.is_readonly(node) for node in (one, one.a, one.a.b)] == [None, True, True]
    assert one.a._get_parent() is one
    assert copied(made.a)._get_parent() is made
    one.a._set_flag("readonly", False)
    one.a.b[1].c = "changed"
    one.a.b.append(2)
    assert made.a._get_node_flag("readonly") is True
    assert made == other
    assert isinstance(one, DictConfig)
