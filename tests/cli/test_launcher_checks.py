"""What is asked of a launcher is judged before anything is submitted or written, by ``plan=true``, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Privsweep

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("cells_per_job=0", "=0: must be a whole number of 1 or more"),
        ("cells_per_job=null", "=null: must be a whole number of 1 or more"),
        ("cpus_per_task=1.5", "=1.5: must be a whole number of 1 or more, or null"),
        ("array_size=-2", "=-2: must be a whole number of 1 or more, or null"),
        ("timeout_min=true", "=True: must be a whole number of 1 or more"),
        ("timeout_min=3", "=3: a job is told of its end signal_delay_s=120 before"),
        ("mem_gb=much", "=much: must be a number of gigabytes, or null"),
        ("use_srun=perhaps", "=perhaps: must be true or false"),
        ("setup=module", "=module: must be lines of a shell"),
        ("setup=[1]", "=[1]: must be lines of a shell"),
    ],
)
def test_a_value_that_a_launcher_cannot_take(
    typed: str, said: str, tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("-m", "seed=0,1", "hydra/launcher=slurm_cpu", f"hydra.launcher.{typed}", "plan=true") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"hydra.launcher.{typed.partition('=')[0]}{said}" in line
    assert not (tmp_path / "outputs").exists()


def test_null_leaves_it_to_the_cluster(privsweep: Privsweep) -> None:
    keys = [f"hydra.launcher.{key}" for key in ("cpus_per_task=null", "mem_gb=2.5", "array_size=null", "setup=null")]
    assert privsweep("-m", "seed=0,1", "hydra/launcher=slurm_gpu", *keys, "plan=true") == 0


def test_one_run_is_not_done_on_the_login_node_in_silence(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("hydra/launcher=slurm_cpu") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "hydra/launcher=slurm_cpu: submits sweeps and tables, and this is one run" in line
    assert "add -m to submit it" in line
    assert not (tmp_path / "outputs").exists()
    assert privsweep("-m", "hydra/launcher=slurm_cpu", "plan=true") == 0


def test_a_launcher_that_an_experiment_chose_is_named(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = "# @package _global_\ndefaults:\n  - override /hydra/launcher: slurm_cpu\n"
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(experiment)
    assert privsweep("--config-dir", str(tmp_path / "conf"), "experiment=mine") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("privsweep: hydra/launcher=slurm_cpu: submits sweeps and tables, and this is one run")
    assert line.endswith("or take hydra/launcher=basic")
