"""The command that goes on with a sweep, or a run, that was cut off: the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override

from privsweep.cli.cells import key_of
from privsweep.interface.keys import finding
from privsweep.run.hydra_settings import LAUNCHER_TEXTS

if TYPE_CHECKING:  # a request that cannot be composed is refused without PyTorch
    from privsweep.cli.sweep import SweepPlan

HIDDEN = "YOUR_VALUE"


def same_command(planned: SweepPlan, hidden: bool = False) -> list[str]:
    """Its words, not yet quoted for a shell.

    ``hidden``: as it may be filed, without what was typed for Hydra alone and may be a secret.
    """
    words = ["privsweep", *(["-m"] if planned.multirun else []), *finding(planned.config_dir)]
    for override in planned.typed:
        secret = hidden and key_of(override).startswith("hydra.") and not _open(override)
        words.append(f"{override.get_key_element()}={HIDDEN}" if secret else str(override.input_line))
    return words


def _open(override: Override) -> bool:
    """Whether it is a number of a launcher or a sweeper, a search's direction, or what a queue shows to everybody."""
    key, value = key_of(override), override.value()
    part, _, word = key.rpartition(".")
    number = value is None or isinstance(value, int | float)
    return (
        (f"{part}.".startswith(("hydra.launcher.", "hydra.sweeper.")) and number)
        or (part == "hydra.launcher" and word in LAUNCHER_TEXTS)
        or key == "hydra.sweeper.direction"
    )
