"""A file in the place of the folder of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Privsweep

from privsweep.cli import data
from privsweep.dataset import download


@pytest.mark.parametrize("folder", ["taken", "taken/data"])
@pytest.mark.parametrize("dataset", ["mnist", "multi30k"])
def test_it_is_told_before_anything_is_downloaded(
    folder: str,
    dataset: str,
    tmp_path: Path,
    privsweep: Privsweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def asked(*arguments: object) -> bool:
        raise AssertionError("nobody is to be asked for data")

    monkeypatch.setattr(download, "reachable", asked)
    (tmp_path / "taken").touch()
    line = f"data_dir={folder}: taken is no folder; name another"
    for plan in ("true", "false"):
        typed = [f"dataset={dataset}", *(["attack=none"] if dataset == "mnist" else ["attack=dager"])]
        assert privsweep(*typed, f"data_dir={folder}", f"plan={plan}", tiny=False) == 2
        assert capsys.readouterr().err.startswith(f"privsweep: {line}")
    if dataset == "mnist":
        assert data.main([dataset, f"data_dir={folder}"]) == 2
        assert capsys.readouterr().err.splitlines() == [line]
    assert not (tmp_path / "outputs").exists()
