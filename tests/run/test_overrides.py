"""What is typed is read as it stands, whatever its characters, and what cannot be is told with the quoting that can."""

from __future__ import annotations

import shlex

import pytest

from privsweep.interface.errors import UserError
from privsweep.run.compose import compose, searching
from privsweep.run.overrides import parsed


@pytest.mark.parametrize(
    "value", ["/x/ä=b", "/x/größe", "a b ü", "/x/~y", "/a#b;c&d!", "/日本/data", "a=b=c", "größe/x y"]
)
def test_a_path_is_read_as_the_shell_passes_it(value: str) -> None:
    [override] = parsed([f"output_dir={value}"])
    assert override.value() == value
    with searching(None):
        assert compose([f"data_dir={value}"]).config["data_dir"] == value


def test_an_unquoted_tilde_is_the_home_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    typed = ["output_dir=~/x ä", "data_dir=~", "dataset.path=~/a.npz", 'fl_setting.path="~/x"', "model.weights=a~"]
    values = [override.value() for override in parsed(typed)]
    assert values == ["/home/me/x ä", "/home/me", "/home/me/a.npz", "~/x", "a~"]


@pytest.mark.parametrize("value", ["a(b)", "a'b", 'a"b', "[a", "a,{b", "x\\\"y'", "{a\\"])
def test_the_quoting_that_is_told_works(value: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed([f"output_dir={value}"])
    told = str(caught.value).rpartition("a part of it: ")[2]
    [override] = parsed(shlex.split(told))
    assert override.value() == value
