"""Under which conditions a table's runs were made, told by their records: amounts of work, and what else differs from
the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from privsweep.table.spec import Table

Behind = tuple[str, str, int]  # row, column, seed: a run behind a cell
Record = Mapping[str, Any]

# Names of values that say how much is done, not how, by part of the configuration.
AMOUNTS: Mapping[str, Sequence[str]] = {
    "dataset": ("train_size", "test_size", "prior_size", "canaries"),
    "prior": ("train_size", "test_size", "prior_size"),
    "fl_setting": (
        "rounds", "epochs", "local_epochs", "local_steps", "pretrain_epochs", "pretrain_size", "models", "without",
        "victims", "candidates", "released",
    ),
    "attack": (
        "iterations", "inner_iterations", "restarts", "shadows", "source_shadows", "shadow_size", "shadow_epochs",
        "epochs", "references",
    ),
}  # fmt: skip
_SHOWN = ("fl_setting", "attack")  # of datasets, the sizes that came of it are told
_WHOSE = ("fl_setting.victim_choice", "fl_setting.victim_seed", "model.init", "model.init_bound")
_OF_ATTACKS = ("attack.", "fl_setting.victim", "fl_setting.candidates")  # mean nothing where nothing is attacked
# Values that change no number, or say which data they were.
_WITHOUT_EFFECT = ("parallel", "memory", "fingerprint", "checkpoints", "evaluate_every", "_target_")
SUBSET = "dataset"  # the condition that says that a file does not hold all that was published
_LONGEST = 60  # characters of a value


def amounts(table: Table, records: Mapping[Behind, Record]) -> list[tuple[str, str]]:
    """Name and value of every amount, examples, victims and initial weights among them; one line each.

    A value that is not the same everywhere says in which columns, or rows, it is which.
    """
    found: dict[str, dict[tuple[str, str], str | None]] = {}
    for (row, column, _), record in records.items():
        sizes = record.get("sizes", {})
        for name in ("train", "test", "prior"):
            number = sizes.get(name) if sizes else "not recorded"
            if number:
                found.setdefault(f"examples, {name}", {})[row, column] = _text(number)
        for name in ("train", "test"):
            number = sizes.get(f"judged_{name}")
            if number and table.metric(row, column).startswith("utility."):
                found.setdefault(f"examples, {name}, that accuracy is of", {})[row, column] = f"{number:,}"
        whole = "published" not in sizes
        part = None if whole else f"a subset: {sizes['file']:,} of {sizes['published']:,} published examples"
        found.setdefault(SUBSET, {})[row, column] = part
        values = dict(_flat(record.get("config", {})))
        attacked = record.get("choices", {}).get("attack") != "none"
        parts = [(key, key.partition(".")[0], key.rpartition(".")[2]) for key in values]
        keys = [key for part in _SHOWN for name in AMOUNTS[part] for key, *own in parts if own == [part, name]]
        for key in (*keys, *_WHOSE):
            if values.get(key) is not None and (attacked or not key.startswith(_OF_ATTACKS)):
                usual = values[key] == "last"  # as models are released
                found.setdefault(key, {})[row, column] = None if usual else _text(values[key])
    return [(name, _told(table, by_cell)) for name, by_cell in found.items() if {*by_cell.values()} - {None, "0"}]


def changes(
    table: Table, records: Mapping[Behind, Record], paper: Mapping[Behind, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Which values, besides amounts, differ from those of ``paper``, the configurations at the paper's scale."""
    found: dict[str, dict[tuple[str, str], str | None]] = {}
    for cell, record in records.items():
        ours, theirs = (dict(_flat(config)) for config in (record.get("config", {}), paper.get(cell, {})))
        attacked = record.get("choices", {}).get("attack") != "none"
        for key in theirs.keys() & ours.keys() - {"seed"}:
            if (
                _is_amount(key)
                or key.rpartition(".")[2] in _WITHOUT_EFFECT
                or (not attacked and key.startswith(_OF_ATTACKS))
            ):
                continue
            other = f"{_text(ours[key])} instead of {_text(theirs[key])}" if ours[key] != theirs[key] else None
            found.setdefault(key, {})[cell[:2]] = other
    return [(key, _told(table, by_cell)) for key, by_cell in sorted(found.items()) if any(by_cell.values())]


def _is_amount(key: str) -> bool:
    """Of a component, or of one within it."""
    part, _, rest = key.partition(".")
    return rest.rpartition(".")[2] in AMOUNTS.get(part, ())


def _told(table: Table, values: Mapping[tuple[str, str], str | None]) -> str:
    """A value for all, or which columns or rows have which; of None nothing is said."""
    distinct = list(dict.fromkeys(values.values()))
    said = [value for value in distinct if value is not None]
    if len(distinct) == 1:
        return said[0]
    for axis, labels in ((1, table.columns), (0, table.rows)):
        of = {name: {value for cell, value in values.items() if cell[axis] == name} for name in labels}
        if all(len(held) <= 1 for held in of.values()):
            groups = {value: [labels[name].label for name in labels if of[name] == {value}] for value in distinct}
            usual = None if None in groups else max(groups, key=lambda value: len(groups[value]))
            every = [label.label for label in labels.values()]
            named = [f"{value} ({_named(groups[value], every)})" for value in said if value != usual]
            return "; ".join([*([] if usual is None else [usual]), *named])
    return "; ".join(said) + ", which differs from cell to cell"


def _named(some: Sequence[str], every: Sequence[str]) -> str:
    """Those labels, or, of more than two, the part or two between commas that they have in common and no others."""
    if len(some) > 2:
        parts = some[0].split(", ")
        for shared in (*combinations(parts, 1), *combinations(parts, 2)):
            if list(some) == [label for label in every if set(shared) <= set(label.split(", "))]:
                return ", ".join(shared)
    return ", ".join(some)


def _text(value: Any) -> str:
    text = "null" if value is None else f"{value:,}" if type(value) is int else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
