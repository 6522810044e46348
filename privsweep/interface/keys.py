"""Words of a configuration that several packages know."""

from __future__ import annotations

import re
from pathlib import Path

from privsweep.interface.errors import UserError

SCALES = ("paper", "half", "quick", "smoke")  # values of scale
_WITHOUT_EFFECT = frozenset(
    {
        "output_dir",
        "data_dir",
        "device",
        "threads",
        "at_once",
        "cuda_graphs",
        "compiled",
        "force",
        "plan",
        "verbose",
        "only",
        "wait",
        "fail_fast",
        "objective",
        "tracker",
        "hydra",
    }
)


def finding(config_dir: str | None) -> list[str]:
    """The words of a command that looks for choices in this folder, too."""
    return ["--config-dir", config_dir] if config_dir else []


def check_config_dir(config_dir: str | None) -> None:
    """Raises UserError where it is named and is no folder."""
    if config_dir is not None and not (config_dir and Path(config_dir).is_dir()):
        raise UserError(f"--config-dir={config_dir}: no such folder; name one that holds your YAML files")


def without_effect(key: str) -> bool:
    """Whether a key such as output_dir or hydra/launcher changes no number of a run, whatever its value."""
    return re.split(r"[./]", key)[0] in _WITHOUT_EFFECT
