"""The page in a browser: what a reader can do with it, and that strings of records stay strings.

Needs Debian's packages chromium and chromium-driver, and the Python package selenium.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_world import failed, html, publish, store_files
from report.test_hostile_strings import CORPUS, a_record, hostile
from report_world import lay, record

from privsweep.interface.printable import printable

webdriver = pytest.importorskip("selenium.webdriver")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")
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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Page(driver, tmp_path_factory.mktemp("page"))
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


def test_runs_are_sorted_filtered_and_unfolded(page: Page, tmp_path: Path) -> None:
    page.open(four(tmp_path))
    assert page.rows() == ["2", "1", "0", "3"]  # newest first, without a date last
    page.click("th button", 5)
    assert page.text("th[aria-sort]") == "SSIM"
    assert page.rows() == ["0", "1", "2", "3"]
    page.click("th[aria-sort] button")
    assert page.rows() == ["2", "1", "0", "3"]
    page.choose("defence", "dp_sgd")
    assert page.rows() == ["2"]
    page.choose("defence", "")
    page.run("const s = document.querySelector('input[type=search]'); s.value = 'seed=1 attack.iterations=20';"
             "s.dispatchEvent(new Event('input'))")  # fmt: skip
    assert page.rows() == ["1"]
    page.run("const s = document.querySelector('input[type=search]');"
             "s.value = 'defense=dp_sgd attack.iterations=2.0000001e1';"
             "s.dispatchEvent(new Event('input'))")  # fmt: skip
    assert page.rows() == ["2"]
    page.run("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Clear').click()")
    page.choose("one more column", "attack.iterations")
    assert page.text("th[aria-sort]") == "attack.iterations"
    assert page.rows()[0] == "3"
    page.choose("one more column", "")
    page.run("location.hash = '#run/000000000000'")
    page.driver.implicitly_wait(2)
    sheet = page.driver.find_element("css selector", ".sheet")
    assert {"Metrics", "Utility", "Accuracy by round", "ROC", "Where it comes from", "privsweep seed=0"} <= set(
        sheet.text.split("\n")
    )
    assert len(sheet.find_elements("css selector", "svg")) == 5  # three charts, and the key of one
    cells = (
        "[...document.querySelectorAll('.sheet .pairs td:first-child')].map((td) => [td.textContent, td.clientHeight])"
    )
    lines = {name: height for name, height in page.run(f"return {cells}") if re.fullmatch(r"\w+", name)}
    assert {"signature", "date", "scale"} <= lines.keys()
    assert max(lines.values()) < 30, "no word is broken"
    assert "honest-but-curious server, train time, white-box" in sheet.text
    page.click("#failed")
    assert page.rows() == ["3"]
    assert "failed: ValueError: the loss is not finite" in page.text("tr.run")
    assert not page.complaints()


@pytest.mark.parametrize(
    ("utility", "told"),
    [
        ({"test_accuracy": 0.5}, ["test accuracy"]),
        ({"test_accuracy": 0.1, "final_test_accuracy": 0.5}, ["final test accuracy", "test accuracy"]),
    ],
)
def test_the_final_accuracy_stands_apart_only_where_another_model_was_attacked(
    utility: dict[str, float], told: list[str], page: Page, tmp_path: Path
) -> None:
    page.open(html(tmp_path, record(0, 0.9, utility=utility)))
    page.run("location.hash = '#run/000000000000'")
    page.driver.implicitly_wait(2)
    page.driver.find_element("css selector", ".sheet")
    assert [name for name in page.all(".sheet .pairs td:first-child") if name.endswith("accuracy")] == told


def test_shares_that_are_accuracies_stand_in_percent_with_their_intervals(page: Page, tmp_path: Path) -> None:
    rates = {"attack_accuracy": 0.25, "attack_accuracy_low": 0.125, "attack_accuracy_high": 0.375}
    one = record(0, 0.9, metrics=rates | {"token_accuracy_target": 0.5})
    page.open(html(tmp_path, one, record(1, 0.9, metrics={"attack_accuracy": 0.5})))
    page.run("location.hash = '#run/000000000000'")
    page.driver.implicitly_wait(2)
    page.driver.find_element("css selector", ".sheet")
    assert {"25.0% [12.5%, 37.5%]", "50.0%"} <= set(page.all(".sheet .pairs td"))
    for place in (1, 0):
        page.click("input[data-run]", place)
    page.click("[role=tab]", 1)
    assert "+25.0 points" in {text.replace("−", "+") for text in page.all("td.number")}


def test_a_long_error_and_many_defences_leave_the_list_its_shape(page: Page, tmp_path: Path) -> None:
    many = ["noisy_gradients", "gradient_pruning", "gradient_quantization"]
    defended = record(0, 0.9, choices=record(0, 0.9)["choices"] | {"defense": many})
    page.open(html(tmp_path, defended, failed(1, "ValueError: " + "no " * 600)))
    assert page.run("return document.querySelector('td.defence').clientWidth") < 400
    heights = "return [...document.querySelectorAll('tr.run')].map((row) => row.clientHeight)"
    assert max(page.run(heights)) < 150


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.21, 0.45), ["0.25", "0.3", "0.35", "0.4", "0.45"]),
        ((0.9601, 0.9612), ["0.9605", "0.961"]),
        ((0.002, 30), ["0.01", "0.1", "1", "10"]),
    ],
)
def test_an_axis_has_numbers_however_narrow_it_is(
    values: tuple[float, float], labels: list[str], page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / f"{0:012x}"
    store_files(folder)
    rows = [f"{i},0,{value}" for i, value in enumerate(values)]
    (folder / "curve.csv").write_text("\n".join(["iteration,victim,distance", *rows]))
    page.open(html(tmp_path, record(0, 0.9)))
    page.run("location.hash = '#run/000000000000'")
    page.driver.implicitly_wait(2)
    page.driver.find_element("css selector", ".sheet svg")
    assert page.all("svg[aria-label='objective by iteration'] text[text-anchor=end]") == labels


def test_two_runs_are_compared_and_defences_weighed(page: Page, tmp_path: Path) -> None:
    page.open(four(tmp_path))
    for place in (0, 2):
        page.click("input[data-run]", place)
    page.click("[role=tab]", 1)
    page.click("[role=tab]", 1)
    lines = page.all(".compare tbody tr")
    assert "defensedp_sgdnone" in lines
    assert "SSIM0.10.9+0.8" in lines
    assert not any(line.startswith(("model.width", "MSE")) for line in lines)  # what is the same
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    points = page.all("[role=tabpanel] svg[role=img] .dot title")
    assert sorted(point.split(":")[0] for point in points) == ["dp_sgd", "no defence"]
    assert any("2 seeds\nfinal test accuracy 50.0%, SSIM 0.8" in point for point in points)
    front = page.all(".beside tbody td:first-child")
    assert front == ["dp_sgd", "no defence"]
    page.click("[role=tab]", 3)
    assert "1 with a privacy budget, 1 without" in page.text("[role=tabpanel]")
    assert not page.complaints()


def test_a_seed_that_failed_or_has_no_number_leaves_no_mean_of_the_others(page: Page, tmp_path: Path) -> None:
    defended = {"choices": {**record(0, 0.9)["choices"], "defense": ["dp_sgd"]}}
    for lost in (record(3, None, **defended), failed(3, "ValueError: the loss is not finite", **defended)):
        page.open(html(tmp_path, record(0, 0.9), record(1, 0.7), record(2, 0.1, **defended), lost))
        page.click("[role=tab]", 2)
        page.choose("leakage", "ssim")
        points = "svg[role=img] .dot title"
        assert [title.split(":")[0] for title in page.all(points)] == ["no defence"]
        assert "1 without a mean, for a seed failed or has no number" in page.text("[role=tabpanel] .bar")
        page.click("[role=tabpanel] input[type=checkbox]")
        assert len(page.all(points)) == 3
        assert "without a mean" not in page.text("[role=tabpanel] .bar")


def test_a_model_counts_by_the_attack_that_gets_most_from_it(page: Page, tmp_path: Path) -> None:
    strong, weak = ({"uses": {"systems": ["a"]}, "config": {"seed": 0, "attack": {"lr": lr}}} for lr in (1, 2))
    other = {"uses": {"systems": ["b"]}, "utility": {"test_accuracy": 0.4}, "config": {"seed": 0}}
    batch = {**strong, "config": {**strong["config"], "fl_setting": {"capture": {"batch_size": 8}}}}
    runs = [record(0, 0.9, **strong), record(1, 0.1, **weak), record(2, 0.5, **other)]
    page.open(html(tmp_path, *runs))
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    assert page.all(".beside tbody td:last-child") == [f"{n:012x}" for n in (2, 0)]
    page.open(html(tmp_path, *runs, record(3, 0.3, **batch)))
    page.click("[role=tab]", 2)
    page.choose("leakage", "ssim")
    assert page.all(".beside tbody td:last-child") == [f"{3:012x}"]  # clients that send batches leak less in truth
    assert [title.split("SSIM ")[1] for title in page.all("svg[role=img] .dot[opacity] title")] == ["0.1"]
    assert not page.complaints()


@pytest.mark.parametrize(
    ("metric", "most"),
    [
        ("tpr_at_1_fpr", lambda e, d: min(math.exp(e) * 0.01 + d, 1 - math.exp(-e) * (1 - d - 0.01))),
        ("balanced_accuracy", lambda e, d: (1 + (math.exp(e) - 1 + 2 * d) / (math.exp(e) + 1)) / 2),
    ],
)
@pytest.mark.parametrize("epsilon", [1.0, 6.0])
def test_what_differential_privacy_allows_is_drawn(
    page: Page, tmp_path: Path, metric: str, most: Callable[[float, float], float], epsilon: float
) -> None:
    """A run that leaks as much lies on the line, which begins at half its budget and ends at twice."""
    delta = 0.001
    measured = {"auc": 0.7, metric: most(epsilon, delta), "ssim": 0.1}
    privacy = {"dp_sgd": {"epsilon": epsilon, "delta": delta}}
    page.open(html(tmp_path, record(0, 0.1, metrics=measured, privacy=privacy, utility={})))
    page.click("[role=tab]", 2)
    page.choose("leakage", metric)
    paths = [page.run(f"return document.querySelector('[role=img] {c}').getAttribute('d')") for c in (".limit", ".dot")]
    line, [(x, y)] = (re.findall(r"[ML]([\d.]+) ([\d.]+)", path) for path in paths)
    assert float(line[32][0]) - 4 == pytest.approx(float(x), abs=0.2)
    assert float(line[32][1]) == pytest.approx(float(y), abs=0.2)
    assert "differential privacy allows, δ = 0.001 (Kairouz et al., 2015)" in page.text(".key")
    page.choose("leakage", "ssim")
    assert page.run("return document.querySelectorAll('.limit').length") == 0
    assert not page.complaints()


@pytest.mark.parametrize(("covers", "drawn"), [("what the adversary sees", 1), ("released model", 0)])
def test_no_bound_is_drawn_for_what_the_budget_does_not_cover(
    page: Page, tmp_path: Path, covers: str, drawn: int
) -> None:
    privacy = {"dp_sgd": {"epsilon": 1.0, "delta": 0.001, "covers": covers}}
    measured = {"auc": 0.7, "balanced_accuracy": 0.6}
    page.open(html(tmp_path, record(0, 0.1, metrics=measured, privacy=privacy, utility={})))
    page.click("[role=tab]", 2)
    page.choose("leakage", "balanced_accuracy")
    for where in ("svg[role=img]", ".key"):
        assert page.run("return document.querySelectorAll(`${arguments[0]} .limit`).length", where) == drawn
    assert not page.complaints()


def test_strings_stay_strings(page: Page, tmp_path: Path) -> None:
    """All of the corpus at once, every part unfolded."""
    records = []
    for i, text in enumerate(CORPUS.values()):
        publish(hostile(text), tmp_path, f"zen/t{i}")
        choices = {**dict.fromkeys(("attack", "dataset", "model", "experiment"), text), "defense": [text]}
        changes = {"signature": f"a{i}", "choices": choices, "utility": {"test_accuracy": 0.5, text: 1.0}}
        records += [a_record(text) | changes, failed(0, text, signature=f"f{i}", scale=text)]
    page.open(html(tmp_path, *records))
    page.run("window.alert = () => { document.title = 'called' };"
             "document.querySelectorAll('tr.run td.name button').forEach((button) => button.click());"
             "document.querySelectorAll('details').forEach((box) => { box.open = true })")  # fmt: skip
    page.click("input[data-run]", 0)
    page.click("input[data-run]", 1)
    shown = []
    for place in range(3):
        page.click("[role=tab]", place)
        shown.append(page.run("return document.body.textContent"))
        assert page.run("return document.querySelectorAll('script').length") == 2
        strange = "#runs :is(img, b, i, iframe, a[href^=http], style)"
        assert page.run("return document.querySelectorAll(arguments[0]).length", strange) == 0
    assert all(printable(text) in shown[0] for text in CORPUS.values())
    assert page.run("return document.title").startswith("privsweep: ")
    assert not page.complaints()


def test_a_narrow_page_does_not_scroll_sideways(page: Page, tmp_path: Path) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    )
    page.open(four(tmp_path))
    page.click("tr.run td.name button")
    for place in range(4):
        page.click("[role=tab]", place)
        assert page.run("return document.documentElement.scrollWidth") <= 360
    others = {
        group: f"{group}_of_a_name_that_says_nearly_everything_about_itself" for group in record(0, 0.9)["choices"]
    }
    page.open(html(tmp_path, record(0, 0.9), record(1, 0.9, choices=others | {"defense": ["gradient_quantization"]})))
    page.run("document.querySelector('.bar details').open = true")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_keys_suffice(page: Page, tmp_path: Path) -> None:
    page.open(four(tmp_path))
    page.run("document.querySelector('tr.run td.name button').focus()")
    active = page.driver.switch_to.active_element
    active.send_keys("\ue007")  # enter
    assert page.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    page.run("document.querySelector('[role=tab]').focus()")
    page.driver.switch_to.active_element.send_keys("\ue014")  # arrow to the right
    assert page.run("return document.activeElement.innerText") == "Compare"
