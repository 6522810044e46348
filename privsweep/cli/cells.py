"""How a cell of a table is composed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra.core.override_parser.types import Override

from privsweep.cli.words import unquoted
from privsweep.interface.errors import UserError
from privsweep.run.compose import Composition, compose, parse
from privsweep.run.variants import Variants
from privsweep.table.conditions import Behind
from privsweep.table.parts import Job
from privsweep.table.spec import Table

CELLS_SET = ("dataset", "prior", "model", "fl_setting", "attack", "defense", "metrics", "seed", "device", "threads")


@dataclass(frozen=True)
class Cells:
    """Composes the cells of a table."""

    base: Composition  # the experiment and what was typed, without any cell
    typed: Sequence[Override]
    parameters: dict[str, set[str]] = field(default_factory=dict)  # of the attacks that cells choose

    @cached_property
    def variants(self) -> Variants:
        return Variants({"table": self.base.config["table"]})

    def compose(self, job: Job) -> Composition:
        """A cell is the experiment file, then what was typed, then what its row, column and seed set, of which a
        defence's parameter counts where the cell has the defence, and an attack's that was typed where the cell keeps
        the experiment's attack or chooses one that has it. Raises UserError that names the cell.
        """
        try:
            return self._composed(job)
        except UserError as error:
            raise type(error)(*(f"{job.id}: {line}" for line in error.args)) from error

    def _composed(self, job: Job) -> Composition:
        own = parse(job.overrides)
        for override in own:
            place = key_of(override).partition("@")[2].partition(".")[0]
            if place not in ("", "prior", *CELLS_SET) or _group(override) not in CELLS_SET:
                raise UserError(f"{override.input_line}: a cell sets only {', '.join(CELLS_SET)}; type it instead")
        given = [*self.typed, *own]
        present = self._defenses(given)
        given = [o for o in given if not _parameter(o, "defense") or _parameter(o, "defense") in present]
        attack = next((o for o in reversed(own) if key_of(o) == "attack"), None)
        if attack and any(_parameter(o, "attack") for o in self.typed):
            known = self._parameters(str(attack.input_line))
            given = [o for o in given if o in own or not (p := _parameter(o, "attack")) or p in known]
        return self.variants.compose([str(o.input_line) for o in given])

    def check(self, jobs: Sequence[Job]) -> None:
        """Raises UserError for a typed parameter of a defence that no cell has: it would name a table that lacks it."""
        typed = [(override, name) for override in self.typed if (name := _parameter(override, "defense"))]
        present = {n for job in jobs for n in self._defenses([*self.typed, *parse(job.overrides)])} if typed else set()
        for override, name in typed:
            if name not in present:
                others = f"choose one of its defences {', '.join(sorted(present))}, or " if present else ""
                raise UserError(f"{override.input_line}: no cell of the table has {name}; {others}leave it out")

    def _defenses(self, given: Sequence[Override]) -> Collection[str]:
        """Those of a cell that ``given`` composes."""
        found: Any = next((o.value() for o in reversed(given) if key_of(o) == "defense"), self.base.config["defense"])
        return [found] if isinstance(found, str) else found or []

    def _parameters(self, attack: str) -> set[str]:
        """What the attack that an override chooses can be given."""
        if attack not in self.parameters:
            plain = [str(o.input_line) for o in self.typed if _group(o) not in ("attack", "defense")]
            self.parameters[attack] = {*compose([*plain, attack]).config["attack"]}
        return self.parameters[attack]


def configs_of(typed: Sequence[str], name: str, seeds: Sequence[int]) -> dict[Behind, dict[str, Any]]:
    """The configuration of every cell and seed of a table as ``typed`` makes it; to be called in ``searching``."""
    base = compose(without_parameters(typed))
    table = Table.from_config({**base.config["table"], "seeds": seeds}, name, base.config.get("figure"))
    cells = Cells(base, parse(typed))
    configs = [(job, cells.compose(job).config) for job in table.jobs()]
    return {cell: config for job, config in configs for cell in job.cells}


def _group(override: Override) -> str:
    return override.key_or_group.partition(".")[0]


def _parameter(override: Override, group: str) -> str | None:
    """``iterations`` of ``attack.iterations``, the defence's name of ``defense.<name>.sigma``; of others None."""
    first, *rest = override.key_or_group.split(".")
    return rest[0] if rest and first == group else None


def key_of(override: Override) -> str:
    """What is overridden, such as ``attack.iterations``, ``model`` or ``dataset@prior``."""
    return override.get_key_element().lstrip("+~")


def words_of(overrides: Sequence[str], swept: Collection[str]) -> str:
    """What tells a run of a sweep from the others: the values of the keys that are swept."""
    own = [o for o in overrides if o.partition("=")[0].lstrip("+~") in swept]
    return " ".join(own or [o for o in overrides if not o.startswith(("hydra.", "hydra/"))])


def values_in(overrides: Sequence[str], swept: Collection[str]) -> dict[str, str]:
    """What a run of a sweep was given for the keys that are swept, in the order of these; "" for one that it lacks."""
    given = {key.lstrip("+~"): unquoted(value) for key, _, value in (o.partition("=") for o in overrides)}
    return {key: given.get(key, "") for key in swept}


def without_parameters(overrides: Sequence[str]) -> list[str]:
    """Without defences' parameters where there is an experiment: which cells have the defence is not known yet."""
    parsed = parse(overrides)
    if not any(key_of(o) == "experiment" for o in parsed):
        return list(overrides)
    return [str(o.input_line) for o in parsed if not key_of(o).startswith("defense.")]


def of_cells(override: Override) -> bool:
    """Whether only a cell can be told: its name, and the parameters of its defences."""
    return key_of(override) == "cell" or _parameter(override, "defense") is not None
