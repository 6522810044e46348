"""The wheel carries everything and works from any folder."""

import subprocess
import sys
from pathlib import Path

from tiny import TINY

ROOT = Path(__file__).parents[2]


def test_the_built_wheel_runs_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    elsewhere.mkdir()
    start = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import privsweep.cli.main as c; print(c.__file__); c.main()"
    )
    run = [sys.executable, "-P", "-c", start, "attack=blind", *TINY]
    shown = subprocess.run(run, cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert str(site) in shown
    assert list(elsewhere.glob("outputs/runs/*/record.json"))
