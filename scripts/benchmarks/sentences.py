"""What dager asks of words: many at once, or one after the other, as a plain loop would.

Random numbers of the sizes that two sentences of fifteen words make by a width of 128. Checked first: both ways find
the same of the words that are there. On the CPU, where the attack does this on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.contest import Case, Contest, DisagreementError, Setup
from privsweep.gradient_inversion.sequences.group_sparse import fewest_atoms
from privsweep.gradient_inversion.sequences.hidden_entries import fewest_misfits
from privsweep.interface.randomness import Rng

_WIDTH, _INPUTS, _HEADS = 128, 30, 4


def under_dropout(setup: Setup) -> Contest:
    """Inputs behind dropout among others that are none of them."""
    there = Rng(0).normal(_INPUTS, _WIDTH).double()
    kept = (Rng(1).normal(_INPUTS, _WIDTH) > -1.28).double()  # nine of ten
    rows = torch.linalg.svd(there * kept, full_matrices=False).Vh
    others = Rng(2).normal(setup.sized(8, 450, 450), _WIDTH).double()
    wanted = torch.cat((there, others))
    return _contest(wanted, lambda part: fewest_misfits(rows, part, torch.ones_like(part)), 64)


def explained(setup: Setup) -> Contest:
    """Words' gradients as combinations of few others' keys and queries."""
    heads, own = 2 * _HEADS, _WIDTH // _HEADS
    atoms = Rng(0).normal(heads, own, 2 * _INPUTS + 1).double()
    share = Rng(1).normal(setup.sized(4, 48, 48), heads, 2 * _INPUTS + 1).double()
    share[:, :, 8:] = 0
    measured = (atoms @ share[..., None])[..., 0]
    noise = torch.full((len(measured), heads), 1e-9, dtype=torch.float64)
    return _contest(measured, lambda part: fewest_atoms(part[..., None], atoms, noise[: len(part)], 1, 45), 16)


def _contest(asked: Tensor, answer: Callable[[Tensor], Tensor], together: int) -> Contest:
    def told(size: int) -> Tensor:
        return torch.cat([answer(part) for part in asked.split(size)])

    def turn(size: int) -> Callable[[], float]:
        return lambda: len(told(size))

    if not torch.allclose(told(1)[:_INPUTS], told(together)[:_INPUTS], rtol=1e-3, atol=1e-3):
        raise DisagreementError("one after the other and at once they find other words")
    return Contest(turn(1), {f"{together} at once": turn(together)})


CASES = {
    "words_dropped": Case("words that may be behind dropout at once, or one after the other", "a word", under_dropout),
    "words_explained": Case("words explained by others at once, or one after the other", "a word", explained),
}
