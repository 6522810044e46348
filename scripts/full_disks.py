"""Runs a sweep on a disk that is full again and again; needs root, for it mounts a small file system in memory.

``python scripts/full_disks.py [--step 200] [--folder DIR]``. The disk grows by so many KiB between attempts. Every
attempt must end with exit code 1, or 2 where not even the first file has room, and lines that say why, without a
traceback, until one completes; then the output folder must be that of a sweep that always had room.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from privsweep.cli.main import main as privsweep
from sweep_world import COLUMNS, SMALL, contents, differences, experiment

import torch


def attempt(conf: Path, output_dir: Path, said: Path) -> int:
    """The exit code of the command; what it says goes to the file ``said``."""
    child = os.fork()
    if child == 0:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            code = 99
            try:
                code = privsweep(["experiment=small", "--config-dir", str(conf), *SMALL, f"output_dir={output_dir}"])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def mounted(options: str, place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=200, help="KiB that the disk grows by")
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="full_disks."))
    conf = experiment(folder, COLUMNS, 1)
    disk, said = folder / "disk", folder / "said.txt"
    disk.mkdir()
    assert attempt(conf, disk, said) == 0, said.read_text()
    whole = contents(disk)
    disk.rename(folder / "whole")
    disk.mkdir()
    size, attempts = args.step, 0
    mounted(f"size={size}k", disk)
    try:
        while (code := attempt(conf, disk, said)) in (1, 2):
            text = said.read_text()
            attempts += 1
            lines = [line for line in text.splitlines() if "No space left" in line]
            print(f"--- {size} KiB: {len(lines)} lines, such as", *lines[:1], sep="\n", flush=True)
            assert "Traceback" not in text, text
            assert lines, text
            assert all("make room" in line for line in lines), text
            size += args.step
            mounted(f"remount,size={size}k", disk)
        assert code == 0, said.read_text()
        wrong = differences(whole, contents(disk))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    print(f"{attempts} attempts on a full disk, then one on {size} KiB; files that differ: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
