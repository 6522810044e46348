"""The runs of an ad hoc sweep, as combinations of what was typed; to be called in ``searching``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override

from privsweep.cli.search_space import MOST, values_of
from privsweep.interface.errors import UserError
from privsweep.run.compose import parse
from privsweep.run.unset import Unset, unset


def expand(typed: Sequence[Override]) -> list[tuple[str, ...]]:
    """The product of the swept values, in the order of Hydra's basic sweeper. Raises UserError where it is none."""
    swept = [override.get_key_element() for override in typed if override.is_sweep_override()]
    given: dict[str, list[str]] = {}  # as there, what is typed last counts, in the place of what was typed first
    for override in typed:
        if override.is_interval_sweep():
            remedy = "add hydra/sweeper=search, or list values as key=a,b"
            raise UserError(f"{override.input_line}: an interval is for a search; {remedy}")
        if swept.count(key := override.get_key_element()) > 1:
            raise UserError(f"{override.input_line}: {key} is swept twice; give all its values at once")
        given[key] = values_of(override)
        if prod(map(len, given.values())) > MOST:
            raise UserError(f"{override.input_line}: makes a sweep of more than {MOST:,} runs; split it")
    return [*product(*given.values())]


def applied(combination: Sequence[str], typed: Sequence[Override]) -> tuple[tuple[str, ...], Unset]:
    """A combination without what only others of the sweep's choices have a key for; and that."""
    loader: Any = GlobalHydra.instance().config_loader()
    left_out = unset(parse(combination), typed, loader.stated)
    return tuple(line for line in combination if line not in left_out), left_out


def distinct(
    combinations: Iterable[Sequence[str]], typed: Sequence[Override]
) -> tuple[dict[tuple[str, ...], int], list[str]]:
    """What the combinations set, each once, with its place among them; and in words what some of them do not set."""
    places: dict[tuple[str, ...], int] = {}
    where: dict[str, dict[str, None]] = {}
    for place, combination in enumerate(combinations):
        own, left_out = applied(combination, typed)
        places.setdefault(own, place)
        for line, choice in left_out.items():
            where.setdefault(line, {})[choice] = None
    return places, [f"{line}: not set where {', '.join(choices)}" for line, choices in where.items()]
