"""A table through a real SLURM, where there is one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY

SMALL = (Path(__file__).parent / "test_cli.py").read_text().partition('TABLE = """\\\n')[2].partition('"""')[0]


def _slurm() -> bool:
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        return False
    try:
        return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.mark.skipif(not _slurm(), reason="no SLURM cluster answers here")
def test_a_table_runs_as_a_job_array_and_not_twice(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "small.yaml").write_text(SMALL)
    launcher = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
    small = ["experiment=small", "--config-dir", "conf", *TINY]
    command = [sys.executable, "-m", "privsweep.cli.main", *small, *launcher, "hydra.launcher.timeout_min=5"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "6 of 6 runs complete" in first.stdout
    stored = list(tmp_path.glob("outputs/runs/*/record.json"))
    assert {json.loads(p.read_text())["status"] for p in stored} == {"complete"}
    assert len(stored) == 6
    assert len(list(tmp_path.glob("outputs/logs/*"))) == 1
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0
    assert "6 of 6 runs complete" in again.stdout
    assert len(list(tmp_path.glob("outputs/logs/*"))) == 1  # Hydra was not even started
