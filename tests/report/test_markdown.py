"""Tables as Markdown."""

from __future__ import annotations

from report_world import NOTED, NOTES, lay, wide

from privsweep.report.markdown import markdown


def test_markdown_is_readable_raw() -> None:
    text = markdown(lay("quick"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert "0.70 ± 0.01 (2)" in rows[2]
    assert "0.10 (only 1 of 2)" in rows[2]
    assert "+0.20" in rows[4]
    assert "scale=quick: amounts of work reduced" in text
    for expected in ("**held** f1", "**not held** f2", "**undecided** f3", "in print: no number)", "commit: abc"):
        assert expected in text
    assert "privsweep experiment=zen/table1 scale=quick" in text
    assert "amounts of work" not in markdown(lay())


def test_a_claim_that_does_not_hold_has_its_reason_below_it() -> None:
    text = markdown(lay("quick"))
    assert text.count("explained by runs here: two leaks less `v('ssim', 'one') > 0.3`\n") == 1


def test_a_wide_table_stands_in_bands_that_leave_no_column_out() -> None:
    text = markdown(wide(26))
    heads = [line for line in text.splitlines() if line.startswith("|") and "Number" in line]
    assert [head.count("Number") for head in heads] == [10, 10, 6]
    assert text.count("– printed") == 1  # only where it says something


def test_every_note_is_there() -> None:
    text = markdown(lay(**NOTED))
    assert all(note in text for note in NOTES)


def test_a_note_of_one_scale_stands_below_the_table_at_that_scale() -> None:
    assert "Little is learnt." in markdown(lay("quick", **NOTED))
    assert "Little is learnt." not in markdown(lay("smoke", **NOTED))
