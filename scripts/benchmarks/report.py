"""The page of ``privsweep-report`` for many runs, against an HTML table of the same records that pandas writes.

On the CPU, whatever the device. The store is made of copies of stored runs, each with a seed, an attack and numbers of
its own, and of copies of the published tables. The floor is the reading of all files. Opening is timed in Chromium,
where selenium, chromium and chromedriver are installed.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd

import privsweep
from benchmarks.commands import TINY
from benchmarks.contest import Case, Contest, Setup, Turn, UnavailableError
from privsweep.cli.report import everything
from privsweep.store.store import Store

PUBLISHED = Path(__file__).parents[2] / "outputs" / "paper"
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync", "no-first-run")


def report(setup: Setup) -> Contest:
    """Pages with every run."""
    root = _filled(setup)

    def read() -> float:
        for path in root.rglob("*"):
            if path.is_file():
                path.read_bytes()
        return 1

    def ours() -> float:
        everything([f"output_dir={root}"])
        return 1

    def table() -> float:
        _table(root)
        return 1

    return Contest(table, {f"{setup.sized(3, 1000, 1000)} runs": ours}, read)


def report_opened(setup: Setup) -> Contest:
    """The same pages in a browser, at the width of a desktop and of a phone."""
    root = _filled(setup)
    pages = {"theirs": _table(root), "ours": everything([f"output_dir={root}"])}

    def opened(page: Path, width: int) -> Turn:
        chrome = _browser(width, setup)

        def turn() -> float:
            chrome.get("about:blank")
            chrome.get(page.resolve().as_uri())
            return 1

        return turn

    return Contest(
        opened(pages["theirs"], 1400), {f"{width} pixels": opened(pages["ours"], width) for width in (1400, 390)}
    )


def _table(root: Path) -> Path:
    page = root / "table.html"
    page.write_text(pd.json_normalize([json.loads(p.read_text()) for p in root.glob("runs/*/record.json")]).to_html())
    return page


def _filled(setup: Setup) -> Path:
    source, root = setup.store, setup.folder / "filled"
    if source is None:
        source = setup.folder / "source"
        for seed in range(setup.sized(1, 3, 3)):
            spec = privsweep.compose(f"output_dir={source}", f"seed={seed}", "device=cpu", *TINY)
            privsweep.execute(spec)
    _copied(source, root, setup.sized(3, 1000, 1000), setup.sized(1, 60, 60))
    return root


def _copied(source: Path, root: Path, runs: int, tables: int) -> None:
    """Fills ``root``; records are changed. Raises UnavailableError where there is nothing to copy."""
    draw, store = random.Random(0), Store(root)
    known = [path.parent for path in sorted(source.glob("runs/*/record.json"))]
    if not known:
        raise UnavailableError(f"{source}: has no runs")
    for n in range(runs):
        folder = known[n % len(known)]
        record: dict[str, Any] = json.loads((folder / "record.json").read_text())
        sign = f"{n:012x}"
        for part in ("metrics", "utility"):
            numbers = record.get(part, {})
            record[part] = {k: v * draw.gauss(1, 0.05) if isinstance(v, float) else v for k, v in numbers.items()}
        config = record.get("config", {})
        config |= {"seed": n % 10, "attack": {**(config.get("attack") or {}), "lr": draw.random()}}
        with store.writing(sign) as draft:
            shutil.copytree(folder, draft, dirs_exist_ok=True)
            (draft / "record.json").write_text(json.dumps({**record, "signature": sign}))
    laid_out = sorted(PUBLISHED.glob("*/*.md"))
    for n in range(tables if laid_out else 0):
        table = laid_out[n % len(laid_out)]
        target = root / "paper" / f"{n // len(laid_out)}" / table.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for file in table.parent.glob(f"{table.stem}.*"):
            shutil.copy(file, target)


def _browser(width: int, setup: Setup) -> Any:
    """Raises UnavailableError without one."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver  # here, for no other case needs it
    except ImportError as error:
        raise UnavailableError("selenium is not installed") from error
    if not browser or not driver:
        raise UnavailableError("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"window-size={width},900", f"user-data-dir={mkdtemp(dir=setup.folder)}"):
        options.add_argument(f"--{flag}")
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    setup.closing.callback(chrome.quit)
    return chrome


CASES = {
    "report": Case("privsweep-report, or an HTML table by pandas", "a page", report),
    "report_opened": Case("its page in Chromium, or that table", "an opening", report_opened),
}
