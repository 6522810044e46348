"""The page of everything as a file: whole in itself, under the strictest policy, small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from page_world import failed, html, publish, store_files
from report_world import lay, record

import privsweep.report.page as package
from privsweep.report.page.curves import VICTIMS
from privsweep.report.page.page import UnderWay

MARKUP = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|</script"


def data_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return found


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [str(v) for k, v in attributes if k in ("src", "href", "action", "srcset", "poster")]


def test_nothing_is_fetched_and_only_this_script_runs(tmp_path: Path) -> None:
    publish(lay(), tmp_path)
    text = html(tmp_path, record(0, 0.5))
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0].replace("&#39;", "'")
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        [inline] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    assert all(re.match(r"#|data:image/webp;base64,|paper/", link) for link in Links(text).links)
    assert "style=" not in text.replace("<style>", "")


def test_the_script_makes_no_markup() -> None:
    sources = list(Path(str(package.__path__[0])).glob("*.js"))
    assert len(sources) > 5
    for source in sources:
        text = source.read_text(encoding="utf-8")
        assert not re.search(MARKUP, text), source
        assert text.count("\n") <= 150


def test_what_was_not_laid_out_takes_a_line(tmp_path: Path) -> None:
    publish(lay(), tmp_path)
    mine = record(7, 0.5)
    mine["choices"] = {**mine["choices"], "experiment": "zen/fig1"}
    text = html(tmp_path, mine, experiments=("zen/fig1", "zen/fig2", "zen/table1"))
    assert "Stored, but in no table yet: 1 run of 1 experiment<" in text
    assert f"privsweep-report zen/fig1 scale=quick output_dir={tmp_path}" in text
    folded = text.partition('id="never">')[2].partition("</details>")[0]
    assert "1 table never run here" in folded
    assert "\nzen/fig2: <code>privsweep experiment=NAME</code> runs one." in folded
    text = html(tmp_path, mine, experiments=("zen/fig1", "zen/fig2", "zen/table1"), config_dir="own")
    assert f"privsweep-report zen/fig1 scale=quick output_dir={tmp_path} --config-dir own<" in text
    assert "<code>privsweep --config-dir own experiment=NAME</code>" in text


def test_runs_in_progress_are_told_as_text(tmp_path: Path) -> None:
    text = html(
        tmp_path, running=(
            UnderWay("dlg on <b>digits</b>", "zen/table1 lenet-s0", "attacking", 12, 100, "3 min", "node7, job 5"),
            UnderWay("iga on digits", "", "training", 0, 0, "4 s", "here"),
        ),
    )  # fmt: skip
    assert "dlg on &lt;b&gt;digits&lt;/b&gt;" in text
    assert "zen/table1 lenet-s0" in text
    assert 'attacking <progress value="12" max="100"></progress> 12 of 100, for 3 min, on node7, job 5<' in text
    assert ">training, for 4 s, on here<" in text
    assert 'id="running"' not in html(tmp_path, record(0, 0.5))


def test_tables_of_runs_that_are_here_come_first(tmp_path: Path) -> None:
    publish(lay(), tmp_path, "a/elsewhere")
    for path in (tmp_path / "paper/a").iterdir():
        path.write_text(re.sub("00000000000[01]", "ffffffffffff", path.read_text()))
    publish(lay(), tmp_path, "b/here")
    text = html(tmp_path, record(0, 0.5))
    assert text.index('id="table/b/here" open') < text.index('id="table/a/elsewhere"')
    assert data_of(text)["tables"]["000000000000"] == ["b/here"]


def test_runs_share_what_they_have_in_common(tmp_path: Path) -> None:
    data = data_of(html(tmp_path, *(record(seed, 0.5) for seed in range(9))))
    assert len(data["runs"]) == 9
    assert {tuple(run["parts"]) for run in data["runs"]} == {(0, 1)}
    assert data["names"][data["runs"][0]["metrics"][0]] == ["mse", "ssim"]
    assert [run["date"] for run in data["runs"]][:2] == ["2025-01-09", "2025-01-08"]  # newest first


def test_a_run_brings_its_pictures_curves_and_error(tmp_path: Path) -> None:
    store_files(tmp_path / "runs" / "000000000000")
    runs = data_of(html(tmp_path, record(0, 0.5), failed(1, "ValueError: no")))["runs"]
    done = next(run for run in runs if run["status"] == "complete")
    assert done["picture"][0].startswith("data:image/webp;base64,")
    assert done["picture"][1:] == [27, 18]  # three images of 8x8 beside each other, twice, with their borders
    assert [name for name, _ in done["objective"]["lines"]] == ["victim 1", "victim 2", "victim 3"]
    assert len(done["objective"]["x"]) == 48
    assert done["training"] == {"x": [2, 3], "lines": [["train accuracy", [0.5, 0.75]], ["test accuracy", [0.25, 0.5]]]}
    assert done["roc"]["x"] == [0, 0, 1]
    assert done["sentences"] == [{"truth": "a dog", "guess": "a cat"}]
    assert next(run for run in runs if run["status"] == "failed")["error"] == "ValueError: no"


def test_long_curves_are_shown_to_their_end(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "000000000000"
    folder.mkdir(parents=True)
    rates = [f"{n / 9000},{n / 9000}" for n in range(9001)]
    (folder / "roc.csv").write_text("\n".join(["false_positive_rate,true_positive_rate", *rates]))
    rounds = [f"{n},0.5,0.5" for n in range(1, 9001)]
    (folder / "training.csv").write_text("\n".join(["round,train_accuracy,test_accuracy", *rounds]))
    distances = [f"{n},{victim},0.5" for victim in range(6) for n in range(1, 5001)]
    (folder / "curve.csv").write_text("\n".join(["iteration,victim,distance", *distances]))
    [run] = data_of(html(tmp_path, record(0, 0.5)))["runs"]
    assert [run[name]["x"][-1] for name in ("roc", "training", "objective")] == [1, 9000, 5000]
    assert len(run["objective"]["lines"]) == VICTIMS


def test_a_record_with_little_in_it_or_with_anything_is_shown(tmp_path: Path) -> None:
    odd = {
        "signature": "b", "status": "complete", "metrics": [1], "config": {"seed": {}, "model": 3}, "choices": None,
        "utility": {"x": float("nan")}, "environment": "?", "privacy": {"a": {"b": {"c": {}}}}, "answers": 3,
    }  # fmt: skip
    assert len(data_of(html(tmp_path, {"signature": "a"}, odd))["runs"]) == 2


def test_files_that_are_no_images_and_no_tables_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "000000000000"
    folder.mkdir(parents=True)
    for name in ("images.npz", "curve.csv", "training.csv", "roc.csv", "sentences.csv"):
        (folder / name).write_bytes(b"PK\x03\x04 \xff\x00, \n,,,\n")
    [run] = data_of(html(tmp_path, record(0, 0.5)))["runs"]
    assert not {"picture", "objective", "training", "roc"} & run.keys()


def test_sizes_are_told_in_words(tmp_path: Path) -> None:
    told = data_of(html(tmp_path, {**record(0, 0.5), "sizes": {"train": 60, "judged_train": 25}}))
    assert {"sizes": "train 60, judged train 25"} in told["parts"]
