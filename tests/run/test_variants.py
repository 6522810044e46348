"""Compositions that differ in values alone come from one, and are what Hydra would have composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from privsweep.interface.errors import UserError
from privsweep.run import variants
from privsweep.run.compose import Composition, compose, searching
from privsweep.run.variants import Variants

Composer = Callable[[Sequence[str]], Composition]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What Hydra was asked to compose."""
    asked: list[Sequence[str]] = []

    def counting(overrides: Sequence[str], known: Mapping[str, Any]) -> Composition:
        asked.append(overrides)
        return compose(overrides, known)

    monkeypatch.setattr(variants, "compose", counting)
    return asked


def _same(made: Variants, *overrides: str) -> None:
    found, expected = made.compose(overrides), compose(overrides)
    assert repr(found.config) == repr(expected.config)  # 1 and True are the same, but not their texts
    assert (found.choices, found.overrides, found.brought) == (
        expected.choices,
        expected.overrides,
        expected.brought,
    )


def test_values_that_nothing_refers_to_are_set_in_what_was_composed(composed: list[Sequence[str]]) -> None:
    def typed(seed: str, rounds: str) -> list[str]:
        own = [f"seed={seed}", f"fl_setting.checkpoints={rounds}", f"dataset.train_size={seed}"]
        return ["attack=iga", "defense=[dp_sgd]", f"defense.dp_sgd.epsilon={seed}", *own]

    made = Variants()
    with searching(None):
        made.compose(typed("0", "[1,2]"))
        _same(made, *typed("true", "[]"))
        assert made.compose(typed("null", "[3]")).config["dataset"]["train_size"] is None
    assert len(composed) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["scale=quick"], ["scale=smoke"]),  # amounts follow from it
        (["seed=0"], ["seed=0", "threads=1"]),  # another key
        (["output_dir=here"], ["output_dir=there"]),  # is judged as Hydra composes
        (["fl_setting.capture.step=1", "fl_setting.capture={step: 0}"],
         ["fl_setting.capture.step=2", "fl_setting.capture={step: 0}"]),  # is set within another
    ],
    ids=str,
)  # fmt: skip
def test_all_else_is_composed(first: list[str], second: list[str], composed: list[Sequence[str]]) -> None:
    made = Variants()
    with searching(None):
        made.compose(first)
        assert made.compose(second).overrides == tuple(second)
    assert composed == [first, second]


@pytest.mark.parametrize("reference", ["${seed}", "${${attack.loss}}"])
def test_references_in_files_of_ones_own_count(reference: str, tmp_path: Path) -> None:
    own = tmp_path / "attack" / "mine.yaml"
    own.parent.mkdir()
    own.write_text(f"defaults: [blind]\nguess: {reference}\nloss: seed\n")
    made = Variants()
    with searching(str(tmp_path)):
        assert [made.compose(["attack=mine", f"seed={n}"]).config["attack"]["guess"] for n in (3, 4, 3)] == [3, 4, 3]


def test_what_is_known_is_not_resolved_again_unless_something_refers_to_it(tmp_path: Path) -> None:
    own = tmp_path / "attack" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("defaults: [blind]\nguess: ${table.title}\n")
    typed = ["experiment=zen/table8", "scale=quick"]
    with searching(str(tmp_path)):
        whole = compose(typed)
        made = Variants({"table": whole.config["table"]})
        assert made.compose(typed).config == whole.config
        assert made.compose(typed).config["table"] is whole.config["table"]
        assert made.compose([*typed, "attack=mine"]).config["attack"]["guess"] == whole.config["table"]["title"]


def test_what_is_wrong_is_refused_each_time() -> None:
    made = Variants()
    with searching(None):
        made.compose(["seed=0", "only=null"])
        for _ in range(2):
            with pytest.raises(UserError, match=r"only=.*: chooses columns or rows of a table"):
                made.compose(["seed=1", "only=[a]"])
