"""Text that is safe to show."""

import pytest

from privsweep.interface.printable import in_markdown, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is, ± é 语 [bold] $x$", "as it is, ± é 语 [bold] $x$"),
        ("two\nlines\r\nand\ta tab ", "two lines and a tab"),
        ("two  spaces", "two  spaces"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x07\x7f\x9b", r"\x07\x7f\x9b"),
        ("\u202eturned", r"\u202eturned"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1 < 2, a_b, [x]", "1 < 2, a_b, [x]"),
        ("two <unk>\nwords", r"two \<unk> words"),
        ("a|b `c` \\d", r"a\|b \`c\` \\d"),
        ("$x$ for 5$", r"\$x\$ for 5\$"),
        ("[x](y) [z]: w", r"[x]\(y) [z]\: w"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, written: str) -> None:
    assert in_markdown(text) == written
