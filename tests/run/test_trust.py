"""A configuration from a stranger runs no code."""

from pathlib import Path

import pytest
from conftest import Privsweep

from privsweep.interface.errors import UserError
from privsweep.run.trust import check_component, check_hydra, check_target


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "privsweep.store.store.torch.load",
        "privsweep.store.store.load_file",
        "privsweep.run.run.run",
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


@pytest.mark.parametrize(
    "node",
    [
        {"callbacks": {"x": {"_target_": "os.system"}}},
        {"job_logging": {"handlers": {"x": {"()": "os.system"}}}},
        {"job_logging": {"handlers": {"x": {"class": "logging.handlers.SocketHandler"}}}},
        {"hydra_logging": {"handlers": {"x": {"class": "logging.StreamHandler", "stream": "ext://os.environ"}}}},
        {"launcher": {"_target_": "evil.Launcher"}},
        {"launcher": {"setup": ["rm -rf ~"]}},
    ],
)
def test_hydras_own_part_builds_nothing_strange(node: dict) -> None:
    with pytest.raises(UserError):
        check_hydra(node, [])


def test_what_is_typed_on_the_command_line_is_the_users_own() -> None:
    check_hydra({"launcher": {"setup": ["module load cuda"]}}, ["hydra.launcher.setup=[module load cuda]"])


@pytest.mark.parametrize(
    "text",
    [
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: evil.Callback\n",
        "# @package _global_\nhydra:\n  job_logging:\n    handlers:\n      x:\n        (): evil.make\n",
        "# @package _global_\nattack:\n  _target_: evil.Attack\n",
        "# @package _global_\nattack:\n  nested:\n    _target_: evil.Attack\n",
    ],
)
def test_a_strangers_experiment_is_refused_before_hydra_builds_it(
    tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "strange.yaml").write_text(text)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert privsweep("experiment=strange", "--config-dir", "conf") == 2
    assert not (tmp_path / "ran").exists()
