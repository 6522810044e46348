"""What a command waits for: no library that it does not use is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "jinja2", "matplotlib", "opacus", "pandas", "PIL", "scipy", "sklearn", "torch", "torch._dynamo", "torchmetrics",
    "torchvision",
}  # fmt: skip
ASKED = """
import sys
from importlib import import_module
from privsweep.cli.main import main

heavy = set({heavy})
for name in ("report", "status", "data", "store", "matrix"):
    import_module(f"privsweep.cli.{{name}}")
for typed in {typed}:
    main(typed)
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def test_no_command_loads_what_it_does_not_use(tmp_path: Path) -> None:
    """Help, tab completion, what cannot be composed, and last what only components can refuse: with PyTorch alone."""
    typed = [
        ["--help"],
        ["--version"],
        ["-sc", "query=bash"],
        ["nokey=1"],
        ["model=nothing"],
        ["attack.iterations=-1"],
        ["attack=shadow_membership", "attack.shadows=-1"],
    ]
    code = ASKED.format(heavy=sorted(HEAVY), typed=typed)
    completed = {**os.environ, "COMP_LINE": "privsweep attack="}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=completed, check=True
    )
    lines = told.stderr.splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[]"] * 5 + ["['torch']"] * 2
    refused = [line for line in lines if line.startswith("privsweep:")]
    assert [line.partition(": ")[2].partition(":")[0] for line in refused] == [
        "nokey", "model=nothing", "attack.iterations=-1", "attack.shadows=-1"
    ]  # fmt: skip
