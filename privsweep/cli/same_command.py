"""The command that goes on with a sweep, or a run, that was cut off: the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privsweep.cli.cells import key_of

if TYPE_CHECKING:  # a request that cannot be composed is refused without PyTorch
    from privsweep.cli.sweep import SweepPlan

HIDDEN = "YOUR_VALUE"


def same_command(planned: SweepPlan, hidden: bool = False) -> list[str]:
    """Its words, not yet quoted for a shell.

    ``hidden``: as it may be filed, without the values that were typed for Hydra alone, which may be secrets.
    """
    own = ["--config-dir", planned.config_dir] if planned.config_dir else []
    words = ["privsweep", *(["-m"] if planned.multirun else []), *own]
    for override in planned.typed:
        key = override.get_key_element()
        secret = hidden and key_of(override).startswith("hydra.")
        words.append(f"{key}={HIDDEN}" if secret else str(override.input_line))
    return words
