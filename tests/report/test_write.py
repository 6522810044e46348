"""Files of a table: where they go, and that none leaves the folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_world import lay

from privsweep.interface.errors import UserError
from privsweep.report.write import write


def test_files_lie_where_the_scale_says(tmp_path: Path) -> None:
    for scale, stem in (
        ("paper", "paper/zen/table1"),
        ("quick", "paper/zen/table1.quick"),
        ("smoke", "smoke/zen/table1"),
    ):
        paths = write(lay(scale), tmp_path)
        assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
            f"{stem}.{s}" for s in ("md", "tex", "csv", "png")
        ]
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_a_variant_does_not_take_the_place_of_the_table(tmp_path: Path) -> None:
    same = write(lay(overrides=("output_dir=/x", "device=cpu", "experiment=zen/table1")), tmp_path)
    other = write(lay(overrides=("fl_setting.clients=2", "defense=[a/b,c]")), tmp_path)
    assert same[0] == tmp_path / "paper/zen/table1.md"
    assert re.fullmatch(r"table1\.defense-a-b-c-.fl_setting.clients-2-[0-9a-f]{6}\.md", other[0].name)


@pytest.mark.parametrize("name", ["../table1", "zen/../../x", "/elsewhere/table1", "..", ".", ""])
def test_no_file_lies_outside_the_folder(tmp_path: Path, name: str) -> None:
    filled = lay()
    filled = replace(filled, table=filled.table.model_copy(update={"experiment": name}))
    with pytest.raises(UserError, match=r"^experiment=.*: leads out of the output folder; rename the experiment$"):
        write(filled, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_output_folder_may_be_given_from_above(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert all(path.is_file() for path in write(lay(), tmp_path / "here" / ".." / "out"))
