"""Whether components of the user's own draw random numbers that no seed of a run sets."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from privsweep.run.declared import is_ours
from privsweep.store.spoilt import say


@contextmanager
def drawing(parts: Mapping[str, Any], device: torch.device) -> Iterator[None]:
    """Says it in a line if one of ``parts``, by what they are called, did so inside; privsweep's own draw nothing so.

    What is drawn so depends on what the process drew before, such as on who else was attacked with it.
    """
    own = [name for name, part in parts.items() if not is_ours(part)]
    before = _states(device) if own else {}
    yield
    after = _states(device) if own else {}
    if moved := [name for name, state in after.items() if state != before[name]]:
        say(
            f"{' or '.join(own)}: draws from {' and '.join(moved)} own stream, which the seed does not set, so that "
            "what is drawn depends on what was drawn before; draw from the rng that it is given: rng.normal(3, 4), or "
            "generator=rng.generator()"
        )


def _states(device: torch.device) -> dict[str, Any]:
    """Of every stream of the whole process."""
    kind, keys, *rest = np.random.get_state()
    torchs = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return {
        "PyTorch's": [state.numpy().tobytes() for state in torchs],
        "NumPy's": (kind, np.asarray(keys).tobytes(), *rest),
        "Python's": random.getstate(),
    }
