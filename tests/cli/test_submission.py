"""Sweeps that are submitted and left, or stopped at the first failure; SLURM's commands are played here."""

import errno
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep

from privsweep.attack.blind import Blind
from privsweep.cli import awaited, cluster
from privsweep.interface.errors import UserError
from privsweep.run.compose import compose, searching
from privsweep.store import sweeps

ROOT = Path(__file__).parents[2]
SWEEP = ("-m", "attack=blind", "seed=0,1,2")
SBATCH = """\
#!/bin/sh
echo x >> jobs
grep -q nosuch "$1" && { echo 'sbatch: error: invalid partition specified: nosuch' >&2; exit 1; }
echo "Submitted batch job 4$(wc -l < jobs)"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A cluster that takes jobs and runs none of them."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    (tmp_path / "bin").mkdir()
    (tmp_path / "jobs").touch()
    scontrol = "#!/bin/sh\necho 'MaxArraySize            = 2'\n"
    for name, text in (("sbatch", SBATCH), ("srun", "#!/bin/sh\n"), ("scontrol", scontrol)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return ("hydra/launcher=slurm", "wait=false")


def test_submitted_and_left(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=2", "hydra.launcher.array_size=null")
    assert privsweep(*SWEEP, *slurm, *plain, "+hydra.launcher.additional_parameters={comment: mine}") == 0
    shown = capsys.readouterr().out
    assert "submitted to SLURM: 3 jobs, 41, 42" in shown
    assert "privsweep-status" in shown
    [(_, sweep)] = sweeps.every(tmp_path / "outputs")
    assert {*plain, "+hydra.launcher.additional_parameters=YOUR_VALUE"} < {*sweep.command}  # for whoever goes on
    assert [cell.job for cell in sweep.cells] == ["41_0", "41_1", "42"]  # arrays of MaxArraySize
    [script] = tmp_path.glob("outputs/logs/*/.submitit/**/41_submission.sh")
    assert "#SBATCH --array=0-1%2" in script.read_text()


def test_what_is_queued_or_running_is_left_to_its_job(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert privsweep(*SWEEP, *slurm) == 0  # 41_0, 41_1 and 42
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\ncat queue\n: > queue\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    queue = "41_0|COMPLETING|None\n41_1|RUNNING|None\n42|PENDING|Priority\n"  # the first was cancelled
    (tmp_path / "queue").write_text(queue)
    capsys.readouterr()
    assert privsweep(*SWEEP, *slurm) == 0
    shown = capsys.readouterr().out
    assert "submitted to SLURM: 1 job, 43\n" in shown
    assert "left to jobs that have them already: 2 runs, 41, 42; to submit them anew, stop those jobs first" in shown
    assert "stop it: scancel 41 42 43" in shown
    [(_, second), (_, first)] = sweeps.every(tmp_path / "outputs")
    assert [cell.job for cell in second.cells] == ["43", "41_1", "42"]
    assert [cell.logs for cell in second.cells] == [None, f"{first.folder}/1", f"{first.folder}/2"]
    error = tmp_path / "outputs" / first.folder / ".submitit" / "41_1" / "41_1_0_log.err"
    error.parent.mkdir(exist_ok=True)
    error.write_text("an error of its own\n")

    monkeypatch.setattr(awaited, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(awaited, "ASK_SECONDS", 0.0)
    (tmp_path / "queue").write_text("41_1|RUNNING|None\n42|PENDING|Priority\n43|PENDING|Priority\n")
    jobs = (tmp_path / "jobs").read_text()
    assert privsweep(*SWEEP, slurm[0]) == 1  # waits, and its jobs are gone
    told = capsys.readouterr()
    assert "submitted to SLURM" not in told.out
    assert (tmp_path / "jobs").read_text() == jobs
    assert f"job 41_1 ended without a result; an error of its own; log: outputs/{first.folder}" in told.err
    assert "3 of 3 runs did not come to their end" in told.err


def test_ctrl_c_while_jobs_are_submitted_waits_until_they_are_noted(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(sbatch.read_text().replace("#!/bin/sh\n", "#!/bin/sh\nkill -INT $PPID\n"))
    assert privsweep(*SWEEP, *slurm) == 130
    shown = capsys.readouterr()
    assert "the 2 jobs that were submitted go on without this command; stop them: scancel 41\n" in shown.out
    assert "interrupted; what was finished is kept" in shown.err
    [(_, sweep)] = sweeps.every(tmp_path / "outputs")
    assert [cell.job for cell in sweep.cells] == ["41_0", "41_1", None]


def test_nothing_is_submitted_again_where_slurm_does_not_say_what_it_has(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As its controller does while it is busy: each job would come twice, and wait on a node for the other."""
    monkeypatch.setattr(cluster, "waiting_and_running", lambda user: None)
    assert privsweep(*SWEEP, *slurm) == 0  # nothing was submitted before
    files = {*tmp_path.glob("outputs/sweeps/*"), *tmp_path.glob("outputs/logs/*")}
    jobs = (tmp_path / "jobs").read_text()
    capsys.readouterr()
    assert privsweep(*SWEEP, *slurm) == 2
    assert capsys.readouterr().err == (
        "privsweep: hydra/launcher: squeue gives no answer, and earlier jobs (41, 42) may still have 3 of these runs; "
        "try again when it does\n"
    )
    assert {*tmp_path.glob("outputs/sweeps/*"), *tmp_path.glob("outputs/logs/*")} == files
    assert (tmp_path / "jobs").read_text() == jobs


def test_a_run_that_filed_nothing_is_told_when_slurm_has_let_its_job_go(
    tmp_path: Path, slurm: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, or where its node has no GPU: its job has left a result, and is in the queue for a while."""
    cell = sweeps.Cell(name="one", signature="0" * 12, number=0, before=(None, None), job="41")
    noted = tmp_path / "sweeps" / "now.json"
    sweep = sweeps.Sweep(
        table="", scale="", overrides=[], config_dir=None, started="", launcher="slurm", folder="logs/now", host="",
        pid=0, user="me", cells=[cell],
    )  # fmt: skip
    sweeps.write(noted, sweep)
    error = tmp_path / "logs" / "now" / ".submitit" / "41" / "41_0_log.err"
    error.parent.mkdir(parents=True)
    error.write_text("run 0: device=cuda: no GPU\nRuntimeError: x\nsrun: error: Exited with exit code 1\n")
    (result := error.parent / "41_0_result.pkl").touch()
    queues = iter([{"41": ("COMPLETING", "None")}] * 4)
    monkeypatch.setattr(cluster, "waiting_and_running", lambda user: next(queues, {}))
    monkeypatch.setattr(cluster, "ended", lambda jobs: {"41": "FAILED"})
    monkeypatch.setattr(awaited, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(awaited, "ASK_SECONDS", 0.0)
    told: list[tuple[str, str]] = []
    awaited.wait(
        {"41": (result, {0})}, {}, noted, tmp_path, False, lambda found, count: told.append((found.state, found.detail))
    )
    assert told == [("stopped", "job 41 ended: failed; device=cuda: no GPU")]


def test_several_runs_share_a_gpu(tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...]) -> None:
    assert privsweep(*SWEEP, "hydra/launcher=slurm_gpu_shared", "hydra.launcher.partition=gpu", *slurm[1:]) == 0
    [(_, sweep)] = sweeps.every(tmp_path / "outputs")
    assert {cell.job for cell in sweep.cells} == {"41"}
    [script] = tmp_path.glob("outputs/logs/*/.submitit/41/41_submission.sh")
    wanted = (
        "gpus-per-node=1",
        "cpus-per-task=8",
        "mem=48GB",
        "partition=gpu",
        "time=240",
        "signal=USR2@120",
        "requeue",
    )
    assert {f"#SBATCH --{option}" for option in wanted} <= set(script.read_text().splitlines())
    assert re.search(r"^srun .* --cpus-per-task=8 ", script.read_text(), re.MULTILINE)  # srun inherits it no longer


def test_the_example_to_copy_gives_keys_that_exist(tmp_path: Path) -> None:
    for name in ("privsweep", "privsweep-data", "privsweep-status"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@" > "$SCRATCH/${0##*/}.said"\n')
        (tmp_path / name).chmod(0o755)
    scratch = tmp_path / "my scratch"
    scratch.mkdir()
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SCRATCH": str(scratch)}
    subprocess.run(["bash", ROOT / "scripts" / "slurm_sweep.sh"], env=environment, check=True)
    with searching(None):
        made = compose((scratch / "privsweep.said").read_text().splitlines()[1:])
    assert made.config["output_dir"] == str(scratch / "privsweep")
    assert made.config["wait"] is False
    assert made.hydra["launcher"]["gpus_per_node"] == 1
    assert (scratch / "privsweep-status.said").read_text().splitlines()[1:] == [
        "zen/table1",
        f"output_dir={scratch}/privsweep",
    ]


def test_what_slurm_refuses_is_one_line(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep(*SWEEP, *slurm, "hydra.launcher.partition=nosuch") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "SLURM took no job: sbatch: error: invalid partition specified: nosuch" in line
    assert line.endswith("; set hydra.launcher.partition to what the cluster has (now nosuch)")
    assert not list(sweeps.every(tmp_path / "outputs"))
    assert not list(tmp_path.glob("outputs/logs/*"))


def test_a_refusal_without_words_is_one_line_too(
    tmp_path: Path, privsweep: Privsweep, slurm: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a wrapper around sbatch, or of one that was killed."""
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    assert privsweep(*SWEEP, *slurm) == 2
    assert capsys.readouterr().err == "privsweep: hydra.launcher: SLURM took no job: sbatch failed without a word\n"


def test_without_a_cluster_nothing_is_left_behind(
    tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep(*SWEEP, "wait=false") == 2
    assert "wait=false: only SLURM" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    assert privsweep(*SWEEP, "hydra/launcher=slurm") == 2
    assert "there is no sbatch here" in capsys.readouterr().err
    assert not (tmp_path / "outputs" / "logs").exists()


def test_a_sweep_stops_at_the_first_failure_where_that_is_wanted(
    tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def broken(*arguments: Any) -> None:
        calls.append(arguments)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Blind, "__call__", broken)
    assert privsweep(*SWEEP, "fail_fast=true") == 1
    assert len(calls) == 1
    told = capsys.readouterr().err
    assert told.count("out of memory; log: outputs/logs/") == 2  # as it happens, and in the list at the end
    assert told.count("left out after a failure") == 2
    assert "3 of 3 runs did not come to their end" in told
    [log] = tmp_path.glob("outputs/logs/*/0/privsweep.log")
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("search", [(), ("hydra/sweeper=search", "objective=metrics.mse", "hydra.sweeper.n_trials=3")])
def test_a_full_disk_ends_a_sweep_and_each_line_about_it_says_what_to_do(
    search: tuple[str, ...], privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(Blind, "__call__", full)
    swept = "fl_setting.lr=0.1,0.2,0.3" if search else "seed=0,1,2"
    assert privsweep("-m", "attack=blind", swept, *search) == 1
    assert len(calls) == 1
    told = capsys.readouterr().err
    failures = [line for line in told.splitlines() if "No space left" in line]
    assert len(failures) == (1 if search else 2)  # as it happens, and in the list at the end
    assert all("output_dir=outputs: no room for results" in line and "make room, and" in line for line in failures)
    assert "Traceback" not in told
    if not search:
        assert told.count("left out after a failure (fail_fast=true, or no room for results: make room, and") == 2


def test_where_not_even_the_failure_can_be_noted_the_list_says_what_to_do(
    privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError("output_dir=outputs: cannot be written") from error

    monkeypatch.setattr("privsweep.run.run.check_writable", full)
    assert privsweep(*SWEEP) == 1
    told = capsys.readouterr().err
    full_up = "output_dir=outputs: no room for results (No space left on device)"
    assert told.count(full_up) == 2, "of three runs one: as it happens, and in the list at the end"
    assert told.count("make room, and repeat the command") == 2, "only those were left out that did not begin"
    assert "waits for its turn" not in told


def test_largest_array_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert cluster.largest_array() is None
    assert cluster.waiting_and_running("me") is None
    assert cluster.ended(["1_0"]) == {}


def test_jobs_that_were_cancelled_before_they_began_share_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ask", lambda *command: "37_2|COMPLETED\n37_[0-1,4%2]|CANCELLED by 0\n38|FAILED\n")
    cancelled = dict.fromkeys(("37_0", "37_1", "37_4"), "CANCELLED")
    assert cluster.ended(["37_0"]) == {"37_2": "COMPLETED", **cancelled, "38": "FAILED"}
