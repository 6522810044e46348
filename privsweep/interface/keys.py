"""Words of a configuration that several packages know."""

from __future__ import annotations

import re

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


def without_effect(key: str) -> bool:
    """Whether a key such as output_dir or hydra/launcher changes no number of a run, whatever its value."""
    return re.split(r"[./]", key)[0] in _WITHOUT_EFFECT
