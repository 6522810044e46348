"""Tables as they lie in the store, read from their Markdown."""

from __future__ import annotations

from pathlib import Path

from page_world import publish
from PIL import Image
from report_world import NOTED, NOTES, lay

from privsweep.report.page.published import published_in


def test_a_table_is_read_back(tmp_path: Path) -> None:
    publish(lay("quick"), tmp_path, "zen/table1.quick")
    Image.new("RGB", (3000, 30)).save(tmp_path / "paper/zen/table1.quick.figure.png")
    [table] = published_in(tmp_path)
    assert (table.name, table.experiment, table.scale) == ("zen/table1.quick", "zen/table1", "quick")
    assert table.title.startswith("a|b & 50% <script>")
    assert table.runs == "3 of 4"
    assert table.further == ""
    assert dict(table.verdicts) == {"held": 1, "not held": 1, "undecided": 1}
    assert table.behind == {"000000000000", "000000000001"}
    assert table.figure
    assert [suffix for suffix, _ in table.files] == ["md", "csv", "figure.png"]
    assert {"", "Findings", "Notes", "Conditions"} == {section.heading for section in table.sections}
    body = table.sections[0].body
    assert body.count("<tr") == 4
    assert '<tr class="printed">' in body
    assert "0.70 ± 0.01 (2)" in body
    assert '<strong class="not">not held</strong>' in table.sections[1].body


def test_every_note_is_there(tmp_path: Path) -> None:
    publish(lay(**NOTED), tmp_path)
    text = "".join(str(section.body) for section in published_in(tmp_path)[0].sections)
    assert all(note in text for note in NOTES)


def test_what_else_was_typed_tells_it_from_another_layout(tmp_path: Path) -> None:
    publish(lay("quick"), tmp_path, "zen/table1.quick")
    path = tmp_path / "paper/zen/table1.quick.md"
    path.write_text(path.read_text().replace("experiment=zen/table1", "experiment=zen/table1 fl_setting.victims=256"))
    [table] = published_in(tmp_path)
    assert table.further == "fl_setting.victims=256"
    path.write_text(path.read_text().replace("privsweep experiment", "privsweep --config-dir 'my conf' experiment"))
    [same] = published_in(tmp_path)
    assert (same.experiment, same.further) == ("zen/table1", "fl_setting.victims=256")


def test_what_is_no_table_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper/README.md").write_text("# Results\n\n## Conditions\n\n- command: rm -rf /\n")
    (tmp_path / "paper/broken.md").write_bytes(b"\xff\xfe\x00# x\n## Conditions\n- command: 'unclosed\n")
    conditions = ["- command: privsweep experiment=a", "- scale: quick", "- runs: 1 of 1"]
    (tmp_path / "secret.md").write_text("\n".join(["# x", "", "## Conditions", *conditions]))
    (tmp_path / "paper/link.md").symlink_to(tmp_path / "secret.md")
    assert published_in(tmp_path) == []


def test_an_older_csv_names_no_runs(tmp_path: Path) -> None:
    publish(lay(), tmp_path)
    (tmp_path / "paper/zen/table1.csv").write_text("table,scale\nzen/table1,paper\n")
    assert published_in(tmp_path)[0].behind is None
