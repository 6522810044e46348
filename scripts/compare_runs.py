"""Whether a change of the code changes results: the small runs of ``gpu_runs``, before and after, compared bit for bit.

    python scripts/compare_runs.py run before            # on the code as it was, in its checkout
    python scripts/compare_runs.py run after             # on the code as it is
    python scripts/compare_runs.py compare before after  # exit code 1 where anything differs

Every attack, defence and setting on digits, which need no data. On one thread of a CPU it takes about five minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from gpu_runs import AGREEING as RUNS
from gpu_runs import TINY

COMMON = [*TINY, "threads=1", "device=cpu"]
_PICTURES = "images.npz"


def run(out: Path) -> int:
    """Every run of the list into a folder of its own below ``out``; the number that failed."""
    failed = 0
    for name, overrides in RUNS.items():
        given = {o.partition("=")[0]: o for o in [*COMMON, *overrides]}
        command = [sys.executable, "-m", "privsweep.cli.main", *given.values()]
        done = subprocess.run([*command, f"output_dir={out / name}"], capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1:] if done.returncode else ["done"]
        print(f"{name:20} {' '.join(last)}", flush=True)
        failed += done.returncode != 0
    return failed


def compare(before: Path, after: Path) -> int:
    """The number of runs whose metrics, utility, privacy, victims' rows or pictures differ, or that lack a record."""
    differing = 0
    for name in RUNS:
        folders = [sorted((root / name / "runs").glob("*")) for root in (before, after)]
        if any(len(found) != 1 for found in folders):
            print(f"{name:20} {len(folders[0])} and {len(folders[1])} records")
            differing += 1
            continue
        (old,), (new,) = folders
        different = [*_numbers(old, new), *_files(old, new)]
        print(f"{name:20} {'differs: ' + ', '.join(different) if different else 'equal'}")
        differing += bool(different)
    return differing


def _numbers(old: Path, new: Path) -> list[str]:
    first, second = (json.loads((folder / "record.json").read_text()) for folder in (old, new))
    return [part for part in ("metrics", "utility", "privacy") if first[part] != second[part]]


def _files(old: Path, new: Path) -> list[str]:
    different = []
    for name in ("victims.csv", "training.csv", "roc.csv", "curve.csv"):
        texts = [(folder / name).read_text() if (folder / name).is_file() else None for folder in (old, new)]
        different += [name] if texts[0] != texts[1] else []
    if (old / _PICTURES).is_file() and (new / _PICTURES).is_file():
        with np.load(old / _PICTURES) as first, np.load(new / _PICTURES) as second:
            same = first.files == second.files and all(np.array_equal(first[k], second[k]) for k in first.files)
        different += [] if same else [_PICTURES]
    return different


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", folder]:
            sys.exit(run(Path(folder)) > 0)
        case ["compare", first, second]:
            sys.exit(compare(Path(first), Path(second)) > 0)
        case _:
            sys.exit(__doc__)
