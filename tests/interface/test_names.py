"""What a component of one's own imports from privsweep itself."""

from __future__ import annotations

import ast
from pathlib import Path

import privsweep


def test_every_name_is_found_and_typed() -> None:
    """Those that are found when asked for are those that a type checker and an editor see."""
    tree = ast.parse(Path(privsweep.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    typed = {a.name: n.module for n in imports if str(n.module).startswith("privsweep.") for a in n.names}
    assert typed == privsweep._ELSEWHERE
    for name in typed:
        assert getattr(privsweep, name) is not None
        assert name in dir(privsweep)
