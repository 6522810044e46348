"""Output where the encoding of the terminal lacks signs."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from privsweep.cli import entry


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"0.5 +- 0.1 * SSIM ^ Grosse \\u4e2d \\udce9\n"),
        ("latin1", b"0.5 \xb1 0.1 * SSIM ^ Gro\xdfe \\u4e2d \\udce9\n"),
        ("utf-8", "0.5 ± 0.1 ● SSIM ↑ Große 中 \\udce9\n".encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_in_signs_that_it_has(
    encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> int:
        for stream in (sys.stdout, sys.stderr):
            print("0.5 ± 0.1 ● SSIM ↑ Große 中 \udce9", file=stream, flush=True)
        return 0

    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding))
    monkeypatch.setattr(entry, "import_module", lambda name: SimpleNamespace(main=main))
    assert entry.matrix() == 0
    assert out.getvalue() == err.getvalue() == written
