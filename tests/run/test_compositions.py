"""Whatever is chosen of the groups is ready to run, or refused with a remedy; so is whatever is typed for a value."""

from __future__ import annotations

from typing import Any

import pytest
from compositions import Choice, checked, composed, offered, small_data
from hypothesis import given, settings
from hypothesis import strategies as st

from privsweep.interface.data import Data
from privsweep.run.compose import compose, searching
from privsweep.run.run_spec import RunSpec

CHEAP = {"derandomize": True, "database": None, "deadline": None}
CHOICES = st.builds(
    Choice,
    fl_setting=st.sampled_from(offered("fl_setting")),
    attack=st.sampled_from(offered("attack")),
    defense=st.lists(st.sampled_from(offered("defense")), unique=True, max_size=2).map(tuple),
    model=st.sampled_from(("lenet", "lenet_dlg", "smlp", "informed_mlp")),
)
# What nobody means: numbers out of bounds, and values of other types.
ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**20), 10**20),
    st.sampled_from([None, "x", "", [], {}, [0], {"_target_": "os.system"}]),
)
KEYS = ("attack.lr", "attack.iterations", "fl_setting.lr", "fl_setting.clients", "fl_setting.capture.round",
        "fl_setting.victims", "model.width", "model.layers", "dataset.resize", "dataset.train_size", "seed", "threads",
        "device", "metrics.asr_threshold", "force")  # fmt: skip
REMEDY = ("; ", "take ", "set ", "input should ", "should have", "numbered", "unable to parse", "only classes")


@pytest.fixture(scope="module")
def digits() -> Data:
    return small_data()


def refused_well(lines: tuple[str, ...]) -> bool:
    """Whether each line names a key, and what it could be instead."""
    return all(": " in line and "\n" not in line and any(word in line for word in REMEDY) for line in lines)


@settings(max_examples=20, **CHEAP)  # type: ignore[arg-type]
@given(choice=CHOICES)
def test_every_choice_is_ready_or_refused_with_a_remedy(digits: Data, choice: Choice) -> None:
    found = checked(choice, digits)
    if not isinstance(found, RunSpec):
        assert refused_well(found)


@settings(max_examples=25, **CHEAP)  # type: ignore[arg-type]
@given(key=st.sampled_from(KEYS), value=ODD)
def test_every_value_is_taken_or_refused_with_a_remedy(digits: Data, key: str, value: Any) -> None:
    found = checked(Choice("fedavg", "dlg", (), "lenet"), digits, {key: value})
    if not isinstance(found, RunSpec):
        assert refused_well(found)


def test_what_is_put_together_here_is_what_is_composed() -> None:
    choice = Choice("fedsgd", "iga", ("precode", "noisy_gradients"), "lenet")
    typed = [*str(choice).split(), "dataset.train_size=60", "dataset.test_size=20", "dataset.prior_size=20",
             "scale=smoke", "model.width=3", "fl_setting.victims=2"]  # fmt: skip
    with searching(None):
        assert compose(typed).config == composed(choice).config


@pytest.mark.parametrize(("precision", "taken"), [("tf32", False), ("bfloat16", True), ("float32", True)])
def test_what_is_clipped_is_not_rounded_to_ten_bits(digits: Data, precision: str, taken: bool) -> None:
    found = checked(Choice("central", "loss_threshold", ("dp_sgd",), "smlp"), digits, {"precision": precision})
    assert isinstance(found, RunSpec) == taken
    if not isinstance(found, RunSpec):
        assert any(line.startswith("precision=tf32: rounds what defense=dp_sgd clips") for line in found)
