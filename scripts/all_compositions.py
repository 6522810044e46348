"""Every attack in every setting under every defence: what is ready to run, and what is refused in which words.

    python scripts/all_compositions.py                    # builds and checks all of them with lenet
    python scripts/all_compositions.py lenet smlp --run   # with two models, and runs those that are ready

Of each the smallest version: 60 digits, three clients, smoke scale. Whatever ends in anything but a record or a refusal
with a remedy is listed, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import privsweep
from compositions import Choice, checked, offered, small_data


def main() -> int:
    """Prints the counts, the refusals by their words, and every fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["lenet"])
    parser.add_argument("--run", action="store_true")
    given = parser.parse_args()
    data, start = small_data(), time.perf_counter()
    count: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    faults: list[str] = []
    defenses = [(), *((name,) for name in offered("defense"))]
    product = itertools.product(offered("fl_setting"), offered("attack"), defenses, given.models)
    with tempfile.TemporaryDirectory() as folder:
        for choice in itertools.starmap(Choice, product):
            try:
                found = checked(choice, data, {"output_dir": folder})
                if isinstance(found, tuple):
                    count["refused"] += 1
                    refusals[found[0].partition("; ")[2] or found[0]] += 1
                    continue
                if given.run:
                    privsweep.execute(found)
                count["ran" if given.run else "ready"] += 1
            except Exception as error:
                count["faults"] += 1
                faults.append(f"{choice}: {type(error).__name__}: {error}".splitlines()[0])
                print(faults[-1], flush=True)
    for remedy, times in refusals.most_common():
        print(f"{times:5}  {remedy}")
    shown = ", ".join(f"{name} {times}" for name, times in sorted(count.items()))
    print(f"{count.total()} compositions in {time.perf_counter() - start:.0f} s: {shown}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
