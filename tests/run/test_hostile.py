"""A stranger's experiment file runs no code, writes nowhere else and reads no secret: a corpus of attempts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep

ROOT = Path(__file__).parents[2]
EVIL = "{_target_: pathlib.Path.write_text, _args_: [ran], data: x}"
TABLE = """\
table:
  title: A small table
  place: nowhere
  rows: {mse: {label: MSE, metric: mse}}
  columns: {a: {label: A, overrides: [OVERRIDE]}}
  seeds: [0]
"""

# Name: what the experiment file says, and the word that the refusal names. A file "ran" is the sign of success.
HOSTILE: dict[str, tuple[str, str]] = {
    # classes that Hydra would build
    "callback": ("hydra: {callbacks: {e: {_target_: evil.Callback}}}", "hydra.callbacks.e"),
    "callback by interpolation": (f"evil: {EVIL}\nhydra: {{callbacks: {{e: '${{evil}}'}}}}", "hydra.callbacks.e"),
    "callbacks by interpolation": (f"evil: {{e: {EVIL}}}\nhydra: {{callbacks: '${{evil}}'}}", "hydra.callbacks.e"),
    "target by interpolation": (
        "evil: torch.load\nhydra: {callbacks: {e: {_target_: '${evil}', f: x.pt}}}",
        "torch.load",
    ),
    "target in two halves": (
        "a: torch\nhydra: {callbacks: {e: {_target_: '${a}.load', f: x.pt}}}",
        "torch.load",
    ),
    "target by oc.create": (
        "hydra: {callbacks: {e: '${oc.create:{_target_:evil.Callback}}'}}",
        "evil.Callback",
    ),
    "target by oc.decode": (
        "a: '\\${b}'\nb: evil.Callback\nhydra: {callbacks: {e: {_target_: '${oc.decode:${a}}'}}}",
        "evil.Callback",
    ),
    "callback reached through privsweep, reads a pickle": (
        "hydra: {callbacks: {e: {_target_: privsweep.run.outcome.pd.read_pickle, filepath_or_buffer: x.pkl}}}",
        "read_pickle",
    ),
    "callback reached through privsweep, writes": (
        "hydra: {callbacks: {e: {_target_: privsweep.store.atomic.Path.write_text, data: x}}}",
        "write_text",
    ),
    "callback that is a function of privsweep": (
        "hydra: {callbacks: {e: {_target_: privsweep.store.writable.check_writable, root: ran}}}",
        "check_writable",
    ),
    "callback that is a class of privsweep, but no callback": (
        "hydra: {callbacks: {e: {_target_: privsweep.store.store.Store, root: ran}}}",
        "hydra.callbacks.e",
    ),
    "callback's argument": (
        f"hydra: {{callbacks: {{e: {{_target_: hydra.experimental.callbacks.LogJobReturnCallback, x: [[{EVIL}]]}}}}}}",
        "_args_",
    ),
    "callback by Hydra's own helpers": (
        "hydra: {callbacks: {e: {_target_: hydra.utils.get_method, path: os.system}}}",
        "get_method",
    ),
    "launcher": ("hydra: {launcher: {_target_: evil.Launcher}}", "hydra.launcher._target_"),
    "launcher by interpolation": ("e: {_target_: evil.L}\nhydra: {launcher: '${e}'}", "BasicLauncherConf"),
    "launcher's parameter": (f"hydra: {{launcher: {{x: {EVIL}}}}}", "hydra.launcher.x"),
    "sweeper": ("hydra: {sweeper: {_target_: evil.Sweeper}}", "hydra.sweeper._target_"),
    "sweeper that is a launcher": (
        "hydra: {sweeper: {_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher}}",
        "hydra.sweeper._target_",
    ),
    "log handler's factory": ("hydra: {job_logging: {handlers: {x: {(): evil.make}}}}", "handlers.x"),
    "log handler's class": (
        "hydra: {job_logging: {handlers: {x: {class: logging.handlers.SocketHandler, host: a, port: 1}}}}",
        "handlers.x",
    ),
    "log handler's stream": (
        "hydra: {hydra_logging: {handlers: {x: {class: logging.StreamHandler, stream: 'ext://os.environ'}}}}",
        "ext://os.environ",
    ),
    "log handler's property": (
        "hydra: {job_logging: {handlers: {file: {.: {baseFilename: ran}}}}}",
        "handlers.file",
    ),
    "log filter": ("hydra: {job_logging: {filters: {x: {(): evil.make}}}}", "filters"),
    "log formatter": ("hydra: {job_logging: {formatters: {simple: {style: '{'}}}}", "formatters.simple.style"),
    "component": ("attack: {_target_: evil.Attack}", "attack._target_"),
    "component in lists": (f"attack: {{nested: [[{{a: {EVIL}}}]]}}", "attack.nested[0][0].a"),
    "component by interpolation": ("objective: evil.Attack\nattack: {_target_: '${objective}'}", "evil.Attack"),
    "component reached through privsweep": (
        "attack: {_target_: privsweep.run.outcome.pd.read_pickle, filepath_or_buffer: x}",
        "read_pickle",
    ),
    "component that is none": ("attack: {_target_: privsweep.store.store.Store, root: ran}", "no component"),
    "metrics": ("metrics: {_target_: privsweep.store.store.Store}", "metrics._target_"),
    "partial": ("attack: {_partial_: true}", "_partial_"),
    "second interpolation": ("dataset: {resize: '\\${oc.env:HOME}'}", "dataset.resize"),
    # lines of a batch script
    "job's name": ('hydra: {job: {name: "x\\ntouch ran"}}', "hydra.job.name"),
    "job's name by interpolation": ('e: "x\\ntouch ran"\nhydra: {job: {name: "${e}"}}', "hydra.job.name"),
    "job's name, carriage return": ('hydra: {job: {name: "x\\rtouch ran"}}', "hydra.job.name"),
    "partition": ('hydra: {launcher: {partition: "x\\ntouch ran"}}', "hydra.launcher.partition"),
    "any text of the launcher": ('hydra: {launcher: {anything: "x\\u2028touch ran"}}', "hydra.launcher.anything"),
    "key of the launcher": ('hydra: {launcher: {"x\\ny": 1}}', "hydra.launcher"),
    "setup": ("hydra: {launcher: {setup: [touch ran]}}", "hydra.launcher.setup"),
    "python": ("hydra: {launcher: {python: touch ran}}", "hydra.launcher.python"),
    "additional parameters": (
        "hydra: {launcher: {additional_parameters: {wrap: touch ran}}}",
        "hydra.launcher.additional_parameters",
    ),
    "a launcher's new word": ("hydra: {launcher: {prolog: touch ran}}", "hydra.launcher.prolog"),
    # environment
    "variables for jobs": ("hydra: {job: {env_set: {PRIVSWEEP_TRUST: os}}}", "hydra.job.env_set.PRIVSWEEP_TRUST"),
    "variables copied to jobs": ("hydra: {job: {env_copy: [SECRET]}}", "hydra.job.env_copy"),
    "variables that are not set": ("hydra: {job: {env_copy: [NOT_SET_ANYWHERE]}}", "hydra.job.env_copy"),
    "secret in a component": ("dataset: {resize: '${oc.env:SECRET}'}", "oc.env:SECRET"),
    "secret in a table": ("table: {title: '${oc.env:SECRET}'}", "oc.env:SECRET"),
    "secret in Hydra's part": ("hydra: {job: {name: '${oc.env:SECRET}'}}", "oc.env:SECRET"),
    "secret decoded": ("attack: {guess: '${oc.decode:\"\\${oc.env:SECRET}\"}'}", "oc.env:SECRET"),
    # folders
    "output folder": ("output_dir: ../ran", "output_dir=../ran"),
    "output folder, absolute": ("output_dir: /elsewhere/privsweep-ran", "output_dir=/elsewhere/privsweep-ran"),
    "output folder, line break": ('output_dir: "outputs/x\\ny"', "output_dir"),
    "run folder": ("hydra: {run: {dir: ../ran}}", "hydra.run.dir"),
    "run folder by dots": ("hydra: {run: {dir: '${output_dir}/../ran'}}", "hydra.run.dir"),
    "sweep folder": ("hydra: {sweep: {dir: ../ran}}", "hydra.sweep.dir"),
    "sweep folder's permissions": ("hydra: {sweep: {mode: '4777'}}", "sweep"),
    "job's folder": ("hydra: {sweep: {subdir: ../../../ran}}", "hydra.sweep.subdir"),
    "job's folder by its number": (
        "f: {'918273645': a}\nhydra: {sweep: {subdir: '../../../${hydra.job.num}'}}",
        "hydra.sweep.subdir",
    ),
    "configuration's folder": ("hydra: {output_subdir: ../../../ran}", "hydra.output_subdir"),
    "log file": ("hydra: {job_logging: {handlers: {file: {filename: ran}}}}", "handlers.file.filename"),
    "log file by the job's name": ("hydra: {job: {name: ../../../../ran}}", "handlers.file.filename"),
    "Hydra's log file": (
        "hydra: {hydra_logging: {handlers: {f: {class: logging.FileHandler, filename: ../ran}}}}",
        "handlers.f.filename",
    ),
    "launcher's folder": ("hydra: {launcher: {submitit_folder: ../ran}}", "hydra.launcher.submitit_folder"),
    "dataset's name": (
        "defaults: [{override /dataset: mnist}]\ndataset: {name: ../../ran}",
        "dataset.name",
    ),
    # what the preflight would not see
    "sweeper's parameters": ("hydra: {sweeper: {params: {seed: '0,1'}}}", "hydra.sweeper.params"),
    "overrides": ("hydra: {overrides: {task: ['attack._target_=evil.A']}}", "hydra.overrides.task"),
    "Hydra's overrides": ("hydra: {overrides: {hydra: ['hydra.launcher.setup=[x]']}}", "hydra.overrides.hydra"),
    "all of Hydra's part elsewhere": ("e: {run: {dir: ran}}\nhydra: '${e}'", "HydraConf"),
    "mode": ("hydra: {mode: MULTIRUN}", "hydra.mode"),
    "change of folder": ("hydra: {job: {chdir: true}}", "hydra.job.chdir"),
    "search path": ("hydra: {searchpath: ['pkg://evil']}", "hydra.searchpath"),
    # a table's cells
    "cell sets the launcher": (TABLE.replace("OVERRIDE", "'hydra.launcher.setup=[touch ran]'"), "hydra.launcher.setup"),
    "cell sets the folder": (TABLE.replace("OVERRIDE", "output_dir=/elsewhere/privsweep-ran"), "output_dir"),
    "cell sets a callback": (
        TABLE.replace("OVERRIDE", "'+hydra.callbacks.e={_target_: evil.C}'"),
        "hydra.callbacks.e",
    ),
    "cell sets it by package": (TABLE.replace("OVERRIDE", "attack@hydra.callbacks.e=dlg"), "hydra.callbacks.e"),
    "cell's component": (TABLE.replace("OVERRIDE", "'attack._target_=evil.A'"), "evil.A"),
    "column's name": (TABLE.replace("{a:", "{'../../ran':").replace("OVERRIDE", "attack=blind"), "../../ran"),
}


@pytest.fixture
def strange(tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on an experiment file of the given text, in a folder where ``evil`` can be imported."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SECRET", "secret-7351")

    def run(text: str, *arguments: str) -> int:
        (tmp_path / "conf" / "experiment" / "strange.yaml").write_text(f"# @package _global_\n{text}\n")
        return privsweep("experiment=strange", "--config-dir", "conf", *arguments)

    return run


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_experiment_is_refused_before_anything_is_built_or_written(
    name: str, strange: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, named = HOSTILE[name]
    before = {*tmp_path.rglob("*")}
    # A table and a sweep are handed to Hydra, a single run is not: all ways are closed.
    for arguments in (() if "table:" in text else ((), ("-m", "seed=0,1"))) or ((),):
        assert strange(text, *arguments) == 2
        shown = capsys.readouterr().err
        assert named in shown
        assert "Traceback" not in shown
        assert "secret-7351" not in shown
    assert {*tmp_path.rglob("*")} - before == {tmp_path / "conf" / "experiment" / "strange.yaml"}
    assert not (tmp_path.parent / "ran").exists()
    assert not Path("/elsewhere/privsweep-ran").exists()


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "all"], ["--info", "config"], ["plan=true"]])
def test_neither_does_it_run_where_nothing_is_run(flag: list[str], strange: Callable[..., int], tmp_path: Path) -> None:
    for name in ("log handler's factory", "Hydra's log file", "callback by interpolation"):
        assert strange(HOSTILE[name][0], *flag) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../../../elsewhere", "/elsewhere", "..", "a/../b", "a\\b", "a\nb"])
def test_no_name_leaves_its_folder(name: str, privsweep: Privsweep, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text("seed: 1\n")
    for group in ("experiment", "attack"):
        assert privsweep(f"{group}={name}") == 2
    assert not (tmp_path / "outputs").exists()


def _ran(*arguments: object) -> None:
    raise AssertionError("the job's body ran")


@pytest.mark.parametrize("at_once", [1, 2])
def test_jobs_check_what_they_compose(
    at_once: int, strange: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file turns hostile when the plan was checked: before anything of it is built, the job refuses it."""
    from privsweep.cli import jobs

    harmless = "seed: 3"
    hostile = (
        "# @package _global_\nhydra: {job_logging: {handlers: {file: {filename: ran, class: logging.FileHandler}}}}"
    )

    monkeypatch.setattr(jobs, "job", _ran)
    check = jobs.check_writable

    def late(*places: Any) -> None:
        check(*places)
        (tmp_path / "conf" / "experiment" / "strange.yaml").write_text(hostile)

    monkeypatch.setattr(jobs, "check_writable", late)
    assert strange(harmless, "-m", "attack=blind", "seed=0,1", f"at_once={at_once}") == 2
    assert not (tmp_path / "ran").exists()


def test_what_an_honest_experiment_sets_is_taken(strange: Callable[..., int], tmp_path: Path) -> None:
    text = (
        "hydra:\n"
        "  job: {name: mine}\n"
        "  run: {dir: '${output_dir}/mine'}\n"
        "  sweep: {dir: '${output_dir}/many', subdir: 'n${hydra.job.num}'}\n"
        "  callbacks: {log: {_target_: hydra.experimental.callbacks.LogJobReturnCallback}}\n"
    )
    assert strange(f"{text}output_dir: outputs/mine", "-m", "attack=blind", "seed=0,1") == 0
    assert (tmp_path / "outputs" / "mine" / "many" / "n1" / "mine.log").is_file()
    assert strange(text.partition("  callbacks")[0], "attack=blind", "output_dir=elsewhere") == 0
    assert (tmp_path / "elsewhere" / "mine" / "mine.log").is_file()


def test_what_is_typed_is_the_users_own(privsweep: Privsweep, tmp_path: Path) -> None:
    typed = ["output_dir=../typed", "hydra.run.dir=../logs", "+hydra.job.env_set.SOME=x"]
    assert privsweep("attack=blind", *typed) == 0
    assert (tmp_path.parent / "logs" / "privsweep.log").is_file()
    assert privsweep("-m", "attack=blind", "hydra.sweep.dir=../sweep", "+hydra.job.env_set={SOME: x}") == 0
    assert (tmp_path.parent / "sweep" / "0" / "privsweep.log").is_file()
    assert privsweep("attack=blind", "hydra.job.name='a\nb'") == 2


def test_a_site_file_sets_what_a_shell_would_run_only_where_the_environment_trusts_it(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    site = tmp_path / "conf" / "hydra" / "launcher" / "mine.yaml"
    site.parent.mkdir(parents=True)
    site.write_text("defaults: [slurm_gpu, _self_]\npartition: gpu\naccount: mine\nsetup: [module load cuda]\n")
    shown = ("--config-dir", "conf", "--cfg", "hydra", "--package", "hydra.launcher", "hydra/launcher=mine")
    assert privsweep(*shown, tiny=False) == 2
    assert "hydra.launcher.setup" in capsys.readouterr().err
    monkeypatch.setenv("PRIVSWEEP_TRUST", "hydra.launcher.setup")
    assert privsweep(*shown, tiny=False) == 0
    told = capsys.readouterr().out
    for line in ("account: mine", "- module load cuda", "gpus_per_node: 1"):
        assert line in told


def test_nothing_is_ever_unpickled() -> None:
    """No call in the package loads a pickle, or an archive of NumPy's that may hold one."""
    readers = {"read_pickle", "loads", "Unpickler", "unsafe_load", "full_load", "load_module", "eval", "exec"}
    modules = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    seen = 0
    for path in sorted((ROOT / "privsweep").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not modules & {name.partition(".")[0] for name in names}, path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            last = called.rpartition(".")[2]
            harmless = called in ("json.loads", "self.eval") or (last == "eval" and not node.args)
            assert last not in readers or harmless, f"{path}:{node.lineno}: {called}"
            assert called not in ("torch.load", "torch.jit.load", "torch.hub.load"), f"{path}:{node.lineno}"
            if called in ("np.load", "numpy.load"):
                seen += 1
                assert "allow_pickle=False" in ast.unparse(node), f"{path}:{node.lineno}"
    assert seen >= 3
