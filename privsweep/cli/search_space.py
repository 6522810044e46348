"""What a search chooses from: it cannot be planned whole, but its ends can be checked before it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from privsweep.cli.cells import key_of
from privsweep.interface.errors import UserError
from privsweep.interface.keys import without_effect
from privsweep.run.hydra_settings import INSTEAD, UNUSED
from privsweep.run.overrides import in_quotes
from privsweep.store.store import Record

if TYPE_CHECKING:
    from privsweep.run.run_spec import RunSpec

MOST = 10_000  # runs of a sweep
SEEDS = ("seed", "victim_seed")  # a search has one of each: they say nothing of what is compared


def check_typed(typed: Sequence[Override]) -> None:
    """Raises UserError for what Hydra would not compose, in words that say nothing of searches."""
    for override in typed:
        key = override.get_key_element().lstrip("+")
        if key == "hydra/sweeper/sampler" and override.value() == "grid":
            remedy = "leave out it and hydra/sweeper, and list the values: key=a,b"
            raise UserError(f"{override.input_line}: tries every value, as a sweep without a search does; {remedy}")
        for word in UNUSED:
            if key == f"hydra.sweeper.{word}" or key.startswith(f"hydra.sweeper.{word}."):
                raise UserError(f"{override.input_line}: hydra.sweeper.{word} is not used here; {INSTEAD}")


def check_swept(typed: Sequence[Override]) -> None:
    """Raises UserError for several values of what holds for a whole command: one run would count as several."""
    for override in typed:
        if override.is_sweep_override() and without_effect(key := key_of(override)):
            remedy = "give it one value"
            if key.endswith("dir"):
                remedy += f", and one with a comma in quotes: {in_quotes(key, str(override.input_line))}"
            raise UserError(f"{override.input_line}: {key} holds for all runs of a command; {remedy}")


def aimless(typed: Sequence[Override], hydra: Mapping[str, Any]) -> list[str]:
    """In words, an objective where nothing is searched for."""
    if not str(hydra["sweeper"]["_target_"]).endswith(".BasicSweeper"):
        return []
    return [f"{o.input_line}: not used without hydra/sweeper=search" for o in typed if key_of(o) == "objective"]


def searches(hydra: Mapping[str, Any]) -> bool:
    """Whether the sweeper chooses values as it goes. Raises UserError for what it cannot go by."""
    sweeper = hydra.get("sweeper") or {}
    if not str(sweeper.get("_target_", "")).startswith("hydra_plugins.hydra_optuna_sweeper."):
        return False
    if hydra["runtime"]["choices"]["hydra/sweeper"] == "optuna":
        raise UserError(
            "hydra/sweeper=optuna: as it comes, it ends at the first failed trial and draws other trials every time; "
            "choose hydra/sweeper=search, which is Optuna's with settings that suit a search here"
        )
    direction = getattr(sweeper["direction"], "name", sweeper["direction"])
    if direction not in ("minimize", "maximize"):
        raise UserError(f"hydra.sweeper.direction={direction}: is neither minimize nor maximize; choose one")
    if sweeper["max_failure_rate"] != 1:
        remedy = "leave it out; fail_fast=true ends a search at its first failed trial"
        raise UserError(f"hydra.sweeper.max_failure_rate={sweeper['max_failure_rate']}: is not used here; {remedy}")
    for word in ("n_trials", "n_jobs"):
        if sweeper[word] < 1:
            raise UserError(f"hydra.sweeper.{word}={sweeper[word]}: is less than 1; give at least one")
    return True


def values_of(override: Override) -> list[str]:
    """What an override sets, one text a value; of an interval its ends. Raises UserError for none, and for too many."""
    key = override.get_key_element()
    if override.is_interval_sweep():
        ends: Any = override.value()
        if ends.start >= ends.end:
            raise UserError(f"{override.input_line}: ends where it begins, or before; give the smaller number first")
        return [f"{key}={ends.start}", f"{key}={ends.end}"]
    if override.is_sweep_override():
        try:
            values = [f"{key}={value}" for value in islice(override.sweep_string_iterator(), MOST + 1)]
        except (HydraException, ValueError, TypeError) as error:
            raise UserError(f"{override.input_line}: cannot be swept ({error}); list the values: a,b,c") from error
        if not 0 < len(values) <= MOST:
            fault = "has no value to sweep over" if not values else f"has more than {MOST:,} values"
            raise UserError(f"{override.input_line}: {fault}; list some: a,b,c")
        alike: dict[float | str, list[str]] = {}
        for value in values:
            alike.setdefault(_as_number(value.partition("=")[2]), []).append(value)
        most = max(alike.values(), key=len)
        if len(most) > 1:
            named = " and ".join(dict.fromkeys(most))
            raise UserError(f"{override.input_line}: {named} is given {len(most)} times, for one run; keep one")
        return values
    return [str(override.input_line)]


def _as_number(text: str) -> float | str:
    """However it is written, for 0 and 0.0 are one run, which would count as two of a deviation of 0."""
    try:
        return float(text)
    except ValueError:
        return text


def numeric(typed: Sequence[Override]) -> bool:
    """Whether trials differ in numbers alone: then the record of each has what that of another has."""
    for override in typed:
        value: Any = override.value()
        values = value.list if override.is_choice_sweep() else []
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
            return False
    return True


def ends(typed: Sequence[Override]) -> list[tuple[str, ...]]:
    """Every choice, and both ends of every range, in turn, with the first values of the rest.

    Raises UserError where nothing is searched over.
    """
    if not any(override.is_sweep_override() for override in typed):
        raise UserError("hydra/sweeper: a search needs something to choose; add key=a,b or 'key=interval(0,1)'")
    first = tuple(values_of(override)[0] for override in typed)
    found = [first]
    for place, override in enumerate(typed):
        values = values_of(override)
        for value in values[1:] if override.is_choice_sweep() else values[1:][-1:]:
            found.append((*first[:place], value, *first[place + 1 :]))
    return found


def drawn(override: Override) -> str:
    """What the sweeper is given for an override: it counts the end of a range in, and steps upwards only."""
    value: Any = override.value()
    if not override.is_range_sweep() or value.shuffle:  # shuffled, it is a choice there
        return str(override.input_line)
    values: list[Any] = list(override.sweep_iterator())
    return f"{override.get_key_element()}=range({min(values)},{max(values)},{abs(value.step)})"


def check_seeds(typed: Sequence[Override]) -> None:
    """Raises UserError for a seed among what is searched over: the best value would be the luckiest draw."""
    for override in typed:
        if override.is_sweep_override() and (key := key_of(override)).rpartition(".")[2] in SEEDS:
            remedy = f"give it one value, and try the best values with several in a sweep afterwards, -m {key}=0,1,2"
            raise UserError(f"{override.input_line}: a search would choose the luckiest {key}; {remedy}")


def check_fractions(typed: Sequence[Override], build: Callable[[tuple[str, ...]], object]) -> None:
    """Raises UserError for an interval between whole numbers whose key takes no others: ends alone do not tell."""
    first = tuple(values_of(override)[0] for override in typed)
    for place, override in enumerate(typed):
        value: Any = override.value()
        if not override.is_interval_sweep() or isinstance(value.start, int) or value.start % 1 or value.end % 1:
            continue
        key, _, text = str(override.input_line).partition("=")
        try:
            build((*first[:place], f"{override.get_key_element()}={value.start + 0.5}", *first[place + 1 :]))
        except UserError as error:
            remedy = f"for whole numbers type '{key}=int({text})'"
            raise UserError(f"{override.input_line}: chooses fractions too, and {error}; {remedy}") from error


def check_objectives(ends: Sequence[tuple[RunSpec, Record | None]], typed: Sequence[Override]) -> None:
    """Raises UserError where it is known that no trial has the number that the search goes by.

    ``ends`` are runs and what is stored of them.
    """
    from privsweep.run.objective import NoNumberError, check_objective

    lacking = []
    for spec, record in ends:
        try:
            check_objective(spec, record)
        except NoNumberError as error:
            lacking.append(error)
    if len(lacking) == len(ends) or (lacking and numeric(typed)):
        raise lacking[0]
