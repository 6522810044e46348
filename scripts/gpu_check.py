"""Whether privsweep is right and fast on this machine's GPU: run it first wherever there is one.

    python scripts/gpu_check.py                              # everything, about half an hour; again: what is missing
    python scripts/gpu_check.py --steps agreement,speed      # some of it
    python scripts/gpu_check.py --device cpu --small         # a minute, on any machine: whether the check itself works

Writes one file a step and ``report.md`` below ``--output``, anew after every row. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import privsweep  # noqa: F401
import torch

from gpu_steps import STEPS, Place, quiet
from privsweep.store.atomic import whole_file
from privsweep.store.environment import environment


def main(arguments: list[str] | None = None) -> int:
    """The number of steps in which something is wrong, 1 at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu_check"))
    parser.add_argument("--data", default="data", help="folder of prepared datasets; CIFAR-10 is used if it is there")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"some of {', '.join(STEPS)}")
    parser.add_argument("--small", action="store_true", help="as little as shows that the check works")
    given = parser.parse_args(arguments)
    steps = given.steps.split(",")
    if unknown := [name for name in steps if name not in STEPS]:
        parser.error(f"--steps {','.join(unknown)}: unknown; choose from {', '.join(STEPS)}")
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: no GPU is visible here; take --device cpu --small")
    given.output.mkdir(parents=True, exist_ok=True)
    for name in steps:
        kept = given.output / f"{name}.json"
        if kept.is_file() and _read(kept)["whole"]:
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name} ...", flush=True)
        print(_section(name, _done(name, Place(given.device, given.output, given.data, given.small))), flush=True)
    found = [_read(given.output / f"{name}.json")["wrong"] for name in steps]
    return 1 if any(found) else 0


def _done(name: str, place: Place) -> dict[str, Any]:
    """The step's result, which is kept after every row: a machine may be taken back at any time."""
    start, rows = time.perf_counter(), []

    def keep(whole: bool) -> dict[str, Any]:
        result = {
            "rows": rows, "wrong": place.found, "whole": whole, "seconds": round(time.perf_counter() - start, 1),
            **environment(torch.device(place.device)),
        }  # fmt: skip
        _write(place.folder / f"{name}.json", json.dumps(result, indent=1))
        _write(place.folder / "report.md", _report(place.folder))
        return result

    with quiet():
        for row in STEPS[name](place):
            rows.append(row)
            keep(whole=False)
    return keep(whole=True)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as draft:
        draft.write_text(text)


def _read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _report(folder: Path) -> str:
    """All that is done, in the order of the steps."""
    done = {name: _read(folder / f"{name}.json") for name in STEPS if (folder / f"{name}.json").is_file()}
    first = next(iter(done.values()))
    wrong = [line for result in done.values() for line in result["wrong"]]
    head = [
        "# privsweep on this GPU",
        "",
        f"{first['device_name']}, torch {first['versions']['torch']}, commit {first['commit']}, "
        f"{datetime.now(UTC):%Y-%m-%d}. Made by `python scripts/gpu_check.py`.",
        "",
        f"Wrong: {len(wrong)}" if wrong else "Nothing is wrong.",
        *(f"- {line}" for line in wrong),
    ]
    return "\n".join([*head, *(_section(name, result) for name, result in done.items())]) + "\n"


def _section(name: str, result: dict[str, Any]) -> str:
    rows = result["rows"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    so_far = "" if result["whole"] else ", not to the end"
    about = f" ({result['seconds']:.0f} s{so_far})"
    lines = [f"\n## {name.capitalize()}\n", (STEPS[name].__doc__ or "").strip() + about, ""]
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_shown(row.get(key, '')) for key in columns)} |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
