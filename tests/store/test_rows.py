"""Tables that grow on the disk."""

from pathlib import Path

import pytest
import torch

from privsweep.store.rows import Rows

NUMBERS = torch.arange(24, dtype=torch.float32).view(6, 2, 2)


def test_columns_keep_their_kind(tmp_path: Path) -> None:
    inside = torch.tensor([True, False, True])
    made = Rows(tmp_path, {}).first(3, 2, lambda part: {"w": NUMBERS[part], "inside": inside[part]})
    assert torch.equal(made["w"], NUMBERS[:3])
    assert torch.equal(made["inside"], inside)


@pytest.mark.parametrize("harm", ["note", "short"])
def test_a_spoilt_table_is_made_again(tmp_path: Path, harm: str) -> None:
    Rows(tmp_path, {}).first(4, 2, lambda part: {"w": NUMBERS[part]})
    if harm == "note":
        (tmp_path / "table.json").write_text("{")
    else:
        (tmp_path / "0.bin").write_bytes(b"1234")
    made: list[slice] = []

    def make(part: slice) -> dict[str, torch.Tensor]:
        made.append(part)
        return {"w": NUMBERS[part]}

    assert torch.equal(Rows(tmp_path, {}).first(4, 4, make)["w"], NUMBERS[:4])
    assert made == [slice(0, 4)]


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    Rows(tmp_path, {}).first(2, 2, lambda part: {"w": NUMBERS[part]})
    with pytest.raises(ValueError, match="another kind"):
        Rows(tmp_path, {}).first(4, 2, lambda part: {"w": NUMBERS[part].double()})
