"""What a record says of the machine and the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from privsweep.store import environment

_WHOLE = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("told", "recorded"),
    [(_WHOLE, _WHOLE[:12]), (f"{_WHOLE}+", f"{_WHOLE[:12]}+"), ("v1.2", "v1.2"), ("", None), (None, None)],
)
def test_a_copy_without_its_history_is_told_its_commit(
    told: str | None, recorded: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "privsweep" / "store" / "environment.py"))
    if told is None:
        monkeypatch.delenv("PRIVSWEEP_COMMIT", raising=False)
    else:
        monkeypatch.setenv("PRIVSWEEP_COMMIT", told)
    assert environment._commit.__wrapped__() == recorded
