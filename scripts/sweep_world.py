"""A small sweep with many kinds of runs, and the comparison of two output folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = {
    "dense": ["attack=dlg", "attack.iterations=2", "attack.memory=0.000001", "model=smlp"],
    "convolutional": ["attack=dlg", "attack.iterations=2", "attack.memory=0.000001"],
    "noisy": ["attack=dlg", "attack.iterations=2", "defense=[noisy_gradients]"],
    "analytic": ["attack=analytic", "model=smlp"],
    "imprint": ["attack=imprint", "model=smlp", "dataset.prior_size=20"],
    "decoder": ["attack=generative_decoder", "fl_setting=split", "model=lenet", "dataset.prior_size=20"],
    "released": [
        "attack=informed_reconstruction", "fl_setting=release", "model=informed_mlp", "dataset.train_size=40",
        "dataset.prior_size=20", "attack.shadows=8", "attack.width=8",
    ],
}  # fmt: skip
SMALL = ["dataset.test_size=20", "fl_setting.victims=2", "scale=smoke", "threads=1"]
OUTSIDE = ("locks", "logs", "sweeps", "running")  # of the comparison: they say how a sweep went
SHOWN = ("date:", "memory_gib:")  # by a table, of the environments
TIMED = ("seconds", "environment", "checksum")  # of a record


def experiment(folder: Path, columns: dict[str, list[str]], seeds: int) -> Path:
    """A configuration folder with the sweep ``small``."""
    small = {"dataset.train_size": "dataset.train_size=60"}
    laid = {
        name: {"label": name, "overrides": [*own, *(v for k, v in small.items() if not any(k in o for o in own))]}
        for name, own in columns.items()
    }
    table = {
        "title": "Small", "place": "nowhere", "rows": {"mse": {"label": "MSE", "metric": "mse"}}, "columns": laid,
        "seeds": list(range(seeds)),
    }  # fmt: skip
    path = folder / "conf" / "experiment" / "small.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + json.dumps({"table": table}))  # JSON is YAML
    return folder / "conf"


def contents(output_dir: Path) -> dict[str, Any]:
    """Every file by its path: bytes, or a record without what is timed."""
    found: dict[str, Any] = {}
    for path in sorted(output_dir.rglob("*")):
        inside = path.relative_to(output_dir)
        kind = len(inside.parts) == 1 and path.is_dir()  # which may be empty
        if inside.parts[0] in OUTSIDE or kind or (path.is_dir() and any(path.iterdir())):
            continue
        if path.name == "record.json":
            found[str(inside)] = {k: v for k, v in json.loads(path.read_text()).items() if k not in TIMED}
        elif path.suffix in (".md", ".tex"):
            found[str(inside)] = [line for line in path.read_text().splitlines() if not any(t in line for t in SHOWN)]
        elif inside.parts[0] != "smoke" or path.suffix != ".png":  # a table's picture has its dates in it
            found[str(inside)] = None if path.is_dir() else path.read_bytes()
    return found


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Paths that only one has, or that are not the same."""
    return sorted(path for path in {*a, *b} if path not in a or path not in b or a[path] != b[path])
