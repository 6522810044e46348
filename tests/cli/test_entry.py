"""The commands as they are installed: Ctrl-C ends each of them in one line."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import TINY

from privsweep.cli import entry, main

ROOT = Path(__file__).parents[2]
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def interrupt(*given: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("loading", [True, False], ids=["loading", "running"])
def test_ctrl_c_is_told_in_one_line(
    command: str, loading: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, name = COMMANDS[command].partition(":")
    assert module == entry.__name__
    name_of_module = "main" if command == "privsweep" else command.removeprefix("privsweep-")
    if loading:
        monkeypatch.setattr(entry, "import_module", interrupt)
    else:
        monkeypatch.setattr(import_module(f"privsweep.cli.{name_of_module}"), "main", interrupt)
    assert getattr(entry, name)() == 130
    shown = capsys.readouterr()
    assert shown.err == f"{command}: interrupted\n"
    assert not shown.out


def test_a_command_gives_the_exit_code_of_its_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["privsweep-status", "output_dir=nowhere"])
    assert entry.status() == 2
    assert "no such folder" in capsys.readouterr().err


def test_ctrl_c_while_pytorch_loads_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "privsweep.cli.terminal", None)  # importing it is an error
    monkeypatch.setattr(main, "one_line", interrupt)
    assert main.main([]) == 130
    assert capsys.readouterr().err == "privsweep: interrupted before anything ran\n"


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    """``privsweep --help | true``: the code that a shell knows of a closed pipe, and nothing is told."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from privsweep.cli.entry import privsweep; sys.argv[1:] = ['--help']; sys.exit(privsweep())"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (entry.CLOSED, b"")


def test_a_terminal_that_is_closed_takes_no_command_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a command in the background (``bg``, ``disown``) of a shell that is left."""
    seen, terminal = os.openpty()

    def run() -> int:
        print("seen", flush=True)
        assert os.read(seen, 99).split() == [b"seen"]
        os.close(seen)
        for stream in (sys.stdout, sys.stderr):
            print("by nobody", file=stream, flush=True)
            print("nor this", file=stream, flush=True)
        return 0

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, os.fdopen(terminal, "w", closefd=False))
    monkeypatch.setattr(entry, "import_module", lambda name: SimpleNamespace(main=run))
    assert entry.privsweep() == 0
    os.close(terminal)


def test_the_version_is_that_of_privsweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"privsweep {version('privsweep')}")
    assert f"torch {version('torch')}" in line
    assert f"hydra-core {version('hydra-core')}" in line


def test_a_run_asks_for_no_notebooks_backend_and_for_no_statistics(tmp_path: Path) -> None:
    """The backend need not be installed where the command is, and matplotlib then refuses to be imported; statistics
    take long to import, and single images need none.
    """
    code = "import sys; from privsweep.cli.entry import privsweep; done = privsweep()\n"
    code += "print('loaded', *{'scipy', 'sklearn', 'torchmetrics', 'opacus'} & sys.modules.keys()); sys.exit(done)"
    surroundings = {
        **os.environ, "MPLBACKEND": "module://nowhere.backend_inline", "PYTHONPATH": os.pathsep.join(sys.path)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, "attack=blind", *TINY],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded"
    assert list(tmp_path.glob("outputs/runs/*/reconstructions.png"))
