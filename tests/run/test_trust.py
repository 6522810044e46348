"""A configuration from a stranger runs no code."""

import pytest

from privsweep.interface.errors import UserError
from privsweep.run.trust import check_component, check_target


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "privsweep.store.store.torch.load",
        "privsweep.store.store.load_file",
        "privsweep.run.run.run",
        "privsweep.run.outcome.pd.read_pickle",
        "privsweep.store.atomic.Path.write_text",
        "privsweep.store.atomic.Path",
        "privsweepevil.attack.Attack",
        "privsweep.attack.none.NoSuch",
        "builtins.eval",
        7,
    ],
)
def test_only_classes_defined_in_trusted_packages_are_named(target: object) -> None:
    with pytest.raises(UserError, match="_target_"):
        check_target("attack", target)


def test_a_package_is_trusted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="PRIVSWEEP_TRUST"):
        check_target("attack", "collections.OrderedDict")
    monkeypatch.setenv("PRIVSWEEP_TRUST", "collections")
    check_target("attack", "collections.OrderedDict")


def test_nested_targets_and_other_instantiation_keys_are_checked() -> None:
    with pytest.raises(UserError, match=r"attack\.a\[1\]\._target_"):
        check_component("attack", {"a": [1, {"_target_": "os.system"}]})
    with pytest.raises(UserError, match="_partial_"):
        check_component("attack", {"_target_": "privsweep.attack.none.NoAttack", "_partial_": True})


def test_what_would_be_interpolated_a_second_time_is_refused() -> None:
    with pytest.raises(UserError, match=r"attack\.path"):
        check_component("attack", {"_target_": "privsweep.attack.none.NoAttack", "path": "${oc.env:HOME}"})


def test_what_is_no_component_is_not_built() -> None:
    with pytest.raises(UserError, match="no component"):
        check_target("attack", "privsweep.store.store.Store")
