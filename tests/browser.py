"""A browser for the page of everything; needs Debian's packages chromium and chromium-driver, and selenium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_world import failed, html, publish, store_files
from report_world import lay, record

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
         "disable-component-update", "disable-sync", "window-size=1200,900")  # fmt: skip
THREAT = {"time": "train", "position": "server", "access": "white-box", "security": "honest-but-curious"}


class Page:
    """A page that is open."""

    def __init__(self, driver: Any, folder: Path):
        self.driver, self.folder = driver, folder

    def open(self, text: str) -> None:
        path = self.folder / "report.html"
        path.write_text(text, encoding="utf-8")
        self.driver.get("about:blank")
        self.driver.get(path.as_uri())

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def rows(self) -> list[str]:
        names = self.run("return [...document.querySelectorAll('tr.run')].map((row) => row.id)")
        return [str(name).removeprefix("run/")[-1] for name in names]

    def choose(self, label: str, value: str) -> None:
        self.run(
            "const s = document.querySelector(`select[aria-label='${arguments[0]}']`);"
            "s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
            label,
            value,
        )

    def click(self, selector: str, place: int = 0) -> None:
        self.run("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, place)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def all(self, selector: str) -> list[str]:
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def browsing(profile: Path, folder: Path) -> Iterator[Page]:
    """A browser with its own ``profile``, for pages in ``folder``; the tests that want one are skipped without."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (BROWSER and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Page(driver, folder)
    driver.quit()


def four(root: Path) -> str:
    """Runs 0 to 3: two seeds without a defence, one defended, one failed; a table."""
    publish(lay(), root)
    store_files(root / "runs" / f"{0:012x}")
    defended = record(2, 0.1, utility={"test_accuracy": 0.4}, privacy={"dp_sgd": {"epsilon": 3.0, "delta": 1e-5}})
    defended["choices"] = {**defended["choices"], "defense": ["dp_sgd"]}
    told = {"threat_model": THREAT, "adversary_data": "the training images of cifar10, and all test images " * 3}
    return html(
        root,
        {**record(0, 0.9), **told},
        record(1, 0.7),
        defended,
        failed(3, "ValueError: the loss is not finite", config={"seed": 3, "attack": {"iterations": 30}}),
    )
