"""Components of the user's own, as the command finds them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Privsweep


@pytest.fixture
def said(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What is said of a component in which ``old`` is mistaken for ``new``, after the exit code."""

    def run(group: str, text: str, old: str, new: str, *more: str) -> str:
        package = f"own_{tmp_path.name}"
        sys.modules.pop(package, None)
        (tmp_path / f"{package}.py").write_text(text.replace(old, new))
        folder = tmp_path / "my_conf" / group
        folder.mkdir(parents=True, exist_ok=True)
        head = "# @package defense.own\n" if group == "defense" else ""
        (folder / "own.yaml").write_text(f"{head}_target_: {package}.Own\nshift: 0.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PRIVSWEEP_TRUST", package)
        chosen = "defense=[own]" if group == "defense" else f"{group}=own"
        width = [] if group == "model" else ["model.width=3"]
        small = ["dataset.train_size=60", "dataset.test_size=20", "fl_setting.victims=2", "scale=smoke", *width]
        code = privsweep("--config-dir", str(tmp_path / "my_conf"), chosen, *small, *more, tiny=False)
        return f"{code} " + " ".join(capsys.readouterr().err.split())

    return run
