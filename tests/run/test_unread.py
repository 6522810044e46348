"""What was typed of what an adversary sees, and the attack does not look at."""

from __future__ import annotations

import pytest

from privsweep.interface.component import marked
from privsweep.run.build import build
from privsweep.run.compose import compose, parse, searching
from privsweep.run.unread import unread


def told(*typed: str) -> list[str]:
    with searching(None):
        return unread([build(compose(typed))], parse(typed))


def test_a_value_for_another_view_of_the_setting_is_told() -> None:
    asked = ("fl_setting.property_class=3", "fl_setting.candidates=10")
    assert told("attack=iga", *asked) == [f"{line}: not used where attack=iga" for line in asked]
    of_updates = ("fl_setting.victims=3", "fl_setting.capture.batch_size=2", "fl_setting.position=client")
    assert told("attack=loss_threshold", *of_updates, "fl_setting.candidates=10") == [
        f"{line}: not used where attack=loss_threshold" for line in of_updates
    ]


@pytest.mark.parametrize("attack", ["property_inference", "update_membership"])
def test_views_that_ask_about_captures_are_made_of_these(attack: str) -> None:
    """And what training reads goes into no view."""
    assert told(f"attack={attack}", "fl_setting.victims=4", "fl_setting.capture.round=last", "fl_setting.lr=0.2") == []


@pytest.mark.parametrize("setting", ["fedavg", "fedsgd", "central", "split", "collaborative_inference", "release"])
def test_every_field_for_exposure_can_be_asked_about(setting: str) -> None:
    with searching(None):
        spec = build(compose([f"fl_setting={setting}"]))
        fields = sorted(marked(spec.fl_setting, "training"))
        lines = unread([spec], parse([f"fl_setting.{name}=1" for name in fields]))
    black_box, properties = {"candidates", "released"}, {"property_class", "property_share"}
    of_split = black_box | {"labels_known"}  # clients send labels as a rule, which no decoder asks for
    others = {"release": set(), "collaborative_inference": black_box, "split": of_split}
    expected = others.get(setting, black_box | properties)
    assert {line.split("=")[0].removeprefix("fl_setting.") for line in lines} == expected


@pytest.mark.parametrize("attack", ["property_inference", "update_membership", "analytic", "loss_threshold", "none"])
def test_labels_are_told_of_where_the_attack_does_not_ask_for_them(attack: str) -> None:
    known = "fl_setting.labels_known=true"
    assert told(f"attack={attack}", known) == [f"{known}: not used where attack={attack}"]


def test_what_is_off_takes_nothing_from_an_attack_that_shares_its_view() -> None:
    assert told("attack=update_membership", "fl_setting.labels_known=false") == []
    assert told("attack=analytic", "fl_setting.labels_known=false") == []


def test_labels_that_some_run_of_the_attack_looks_at_are_used() -> None:
    known = "fl_setting.labels_known=true"
    assert told("attack=iga", known) == []
    analytic, looks = (("attack=iga", known, f"attack.labels={labels}") for labels in ("analytic", "known"))
    assert told(*analytic) == [f"{known}: not used where attack=iga"]
    with searching(None):
        assert unread([build(compose(typed)) for typed in (analytic, looks)], parse(looks)) == []


def test_queries_that_no_decoder_is_fitted_to_are_told_of() -> None:
    kept = "fl_setting.queries_kept=64"
    assert told("fl_setting=collaborative_inference", "attack=shadow_inversion", kept) == [
        f"{kept}: not used where attack=shadow_inversion"
    ]
    assert told("fl_setting=collaborative_inference", "attack=moment_inversion", kept) == []
