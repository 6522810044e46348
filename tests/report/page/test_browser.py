"""The list of runs in a browser: what a reader can do with it, and that strings of records stay strings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import Page, four
from page_world import failed, html, publish, store_files
from report.test_hostile_strings import CORPUS, a_record, hostile
from report_world import record

from privsweep.interface.printable import printable


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


def test_how_well_a_property_is_told_has_a_column(page: Page, tmp_path: Path) -> None:
    page.open(html(tmp_path, record(0, None, metrics={"property_auc": 0.75, "property_accuracy": 0.5})))
    assert "property AUC" in page.all("th button")
    assert "0.75" in page.all("tr.run td")


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
