"""How long ``privsweep-report`` takes for many runs, how large its page is, and how fast a browser opens it.

    python scripts/benchmark_report.py outputs --runs 1000 --tables 60

The store is made of copies of the runs and tables that ``outputs`` holds, each copied run with a seed, an attack and
numbers of its own. Opening is timed in Chromium where selenium, chromium and chromedriver are installed, from the
start of the navigation to the end of the load event, at the width of a desktop and of a phone.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync", "no-first-run")
LOADED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copied(given.store, root, given.runs, given.tables)
        command = [sys.executable, "-c", "import sys; from privsweep.cli.report import main; sys.exit(main())"]
        start = time.perf_counter()
        subprocess.run([*command, f"output_dir={root}"], check=True)
        page = root / "report.html"
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        cores = f"{spent.ru_utime + spent.ru_stime:.1f} s of one core"
        print(f"made in {time.perf_counter() - start:.1f} s ({cores}), {page.stat().st_size / 1e6:.1f} MB")
        for width in (1400, 390):
            if (seconds := opened(page, width)) is not None:
                print(f"opened at {width} pixels in {min(seconds):.2f} to {max(seconds):.2f} s")


def copied(source: Path, root: Path, runs: int, tables: int) -> None:
    """Fills ``root``; files are linked, records are changed."""
    draw = random.Random(0)
    known = [path.parent for path in sorted(source.glob("runs/*/record.json"))]
    if not known:
        sys.exit(f"{source}: has no runs")
    for n in range(runs):
        folder = known[n % len(known)]
        record: dict[str, Any] = json.loads((folder / "record.json").read_text())
        sign = f"{n:012x}"
        new = root / "runs" / sign
        new.mkdir(parents=True)
        for file in folder.iterdir():
            if file.name != "record.json":
                shutil.copy(file, new)
        for part in ("metrics", "utility"):
            numbers = record.get(part, {})
            record[part] = {k: v * draw.gauss(1, 0.05) if isinstance(v, float) else v for k, v in numbers.items()}
        config = record.get("config", {})
        config |= {"seed": n % 10, "attack": {**(config.get("attack") or {}), "lr": draw.random()}}
        (new / "record.json").write_text(json.dumps({**record, "signature": sign}, indent=2))
    laid_out = sorted(source.glob("paper/*/*.md"))
    for n in range(tables if laid_out else 0):
        table = laid_out[n % len(laid_out)]
        target = root / "paper" / f"{n // len(laid_out)}" / table.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for file in table.parent.glob(f"{table.stem}.*"):
            shutil.copy(file, target)


def opened(page: Path, width: int) -> list[float] | None:
    """Seconds of five openings; None without a browser."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not browser or not driver:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"window-size={width},900", f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        seconds = []
        for _ in range(5):
            chrome.get("about:blank")
            chrome.get(page.resolve().as_uri())
            seconds.append(chrome.execute_script(LOADED) / 1000)
        chrome.quit()
    return seconds


if __name__ == "__main__":
    main()
