"""A record's utility: of the weights that were attacked, and under ``final_`` of those that training ended with.

Names have ``final_`` where training went on after the attack alone; else the plain ones are of both.
"""

from __future__ import annotations

from collections.abc import Mapping

FINAL = "final_"


def finals(utility: Mapping[str, float]) -> dict[str, float]:
    """Of the final model, under plain names."""
    found = {name.removeprefix(FINAL): value for name, value in utility.items() if name.startswith(FINAL)}
    return found or dict(utility)


def with_finals(utility: Mapping[str, float]) -> dict[str, float]:
    """Under both names, whatever was attacked."""
    return {**{f"{FINAL}{name}": value for name, value in finals(utility).items()}, **utility}
