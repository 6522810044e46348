"""How fast everything is: named cases, each a baseline and our way, turn about in one process.

    python scripts/benchmark.py --list
    python scripts/benchmark.py --cases 'iga_*' dlg
    python scripts/benchmark.py --device cuda --json benchmark.json
    python scripts/benchmark.py --threads 1 --write      # on an idle machine

A line gives the time of one unit (an image, a victim's iteration) in the baseline and in ours, how many times as fast
ours is, the extremes of that over the turns, and the floor: the least that the machine's own speed allows. All are
medians over the turns; ratios are taken within a turn, so that a busy machine disturbs both sides alike. Where a case
says so, it is checked first that both sides give the same result.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import privsweep  # noqa: F401  (says how idle threads wait, before PyTorch is loaded)
import torch

from benchmarks import (
    commands,
    gradient_matching,
    networks,
    options,
    releases,
    report,
    sentences,
    shadows,
    solved,
    training,
)
from benchmarks.contest import Case, DisagreementError, Result, Setup, UnavailableError, measure
from benchmarks.table import duration, put_into, speed_table
from privsweep.interface.rounding import Precision, round_products
from privsweep.store.atomic import write_json
from privsweep.store.environment import environment

CASES: Mapping[str, Case] = {
    name: case
    for module in (
        gradient_matching,
        options,
        training,
        shadows,
        networks,
        releases,
        sentences,
        solved,
        commands,
        report,
    )
    for name, case in module.CASES.items()
}
PAGE = Path(__file__).parents[1] / "docs/speed.md"
SIDES = ("baseline", "ours", "ratio", "in the turns", "floor", "turns")
HEAD = "{:41} {:>9} {:>9} {:>7} {:>15} {:>9} {:>5}  time of".format("case", *SIDES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a case failed, or its two sides disagree."""
    given = _parser().parse_args(arguments)
    chosen = [name for name in CASES if any(fnmatchcase(name, pattern) for pattern in given.cases)]
    unknown = [p for p in given.cases if not any(fnmatchcase(name, p) for name in CASES)]
    if unknown:
        print(f"--cases {unknown[0]}: no such case; --list names them", file=sys.stderr)
        return 2
    if given.list:
        print("\n".join(f"{name:20} {CASES[name].about}" for name in chosen))
        return 0
    if given.threads:
        torch.set_num_threads(given.threads)
    round_products(given.precision)
    device = torch.device(given.device)
    asked, known = sys.argv[1:] if arguments is None else list(arguments), environment(device)
    told: dict[str, Any] = {"arguments": asked, "environment": known, "load": os.getloadavg()[0]}
    told |= {"results": [], "without": {}}
    print(f"{device} ({known['device_name']}), {known['threads']} threads, load {told['load']:.1f}\n{HEAD}")
    code = 0
    for name in chosen:
        try:
            for result in _measured(CASES[name], given, device):
                memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
                told["results"].append({"case": name, "unit": CASES[name].unit, "memory_gib": memory, **asdict(result)})
                print(_line(name, CASES[name].unit, result), flush=True)
        except UnavailableError as reason:
            told["without"][name] = str(reason)
            print(f"{name:20} not here: {reason}", flush=True)
        except Exception as error:  # the other cases are measured all the same
            code = 1
            kind = "" if isinstance(error, DisagreementError) else f"{type(error).__name__}: "
            told["without"][name] = f"{kind}{error}"
            print(f"{name:20} failed: {kind}{error}", flush=True)
        if given.json:
            write_json(given.json, told)
    if given.write:
        put_into(PAGE, speed_table(told, CASES))
    return code


def _measured(case: Case, given: argparse.Namespace, device: torch.device) -> list[Result]:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        contest = case.prepare(Setup(device, given.quick, Path(folder), closing, given.victims, given.store))
        return measure(contest, 0 if given.quick else given.seconds, device, 1 if given.quick else 3)


def _line(name: str, unit: str, found: Result) -> str:
    spread = f"{found.least:.2f} to {found.most:.2f}"
    floor = "" if found.floor is None else duration(found.floor)
    return (
        f"{name:20} {found.variant:20} {duration(found.baseline):>9} {duration(found.ours):>9} {found.ratio:6.2f}x "
        f"{spread:>15} {floor:>9} {found.turns:5}  {unit}"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--cases", nargs="+", default=["*"], help="names, or patterns such as 'iga_*'; all, unless given")
    add("--list", action="store_true", help="name the cases, and measure nothing")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--quick", action="store_true", help="smallest sizes, one turn: whether the cases work, not how fast they are")
    add("--json", type=Path, help="a file for all numbers of every turn, written anew after every case")
    add("--seconds", type=float, default=10.0, help="of a case, after the warm-up; at least three turns are taken")
    add("--threads", type=int, help="of the CPU; PyTorch's choice, unless given")
    add("--precision", choices=get_args(Precision), default="float32", help="of products")
    add("--victims", type=_numbers, default=(), help="attacked at once: 1,8,32")
    add("--write", action="store_true", help="put what was measured into docs/speed.md, in the place of what is there")
    add("--store", type=Path, help="an output folder whose runs fill the report; some are made, unless given")
    return parser


if __name__ == "__main__":
    sys.exit(main())
