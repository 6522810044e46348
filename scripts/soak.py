"""Many short runs in one process, to see whether its memory grows.

``python scripts/soak.py [--runs 500] [--most 40]``. The runs are those of ``sweep_world.py``, each with a new seed, by
the command's own entry point. Exit code 1 where the resident memory after the last is more than ``most`` MiB above that
after the first 50.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
from pathlib import Path

from privsweep.cli.main import main as privsweep
from sweep_world import COLUMNS, SMALL

import torch

_WARM = 50  # runs after which everything has been loaded and cached


def resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--most", type=float, default=40, help="MiB")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kinds = list(COLUMNS.values())
    first = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for n in range(args.runs):
            own = kinds[n % len(kinds)]
            train = [] if any("train_size" in o for o in own) else ["dataset.train_size=60"]
            with contextlib.redirect_stdout(io.StringIO()):
                code = privsweep([*own, *train, *SMALL, f"seed={n}", f"output_dir={folder}"])
            assert code == 0
            if (n + 1) % _WARM == 0:
                gc.collect()
                first = first or resident()
                print(f"{n + 1} runs: {resident():.0f} MiB, {len(gc.get_objects())} objects", flush=True)
    return 1 if resident() - first > args.most else 0


if __name__ == "__main__":
    sys.exit(main())
