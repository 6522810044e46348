"""privsweep from Python: compose a run, execute it, sweep, read what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from privsweep.cli.cells import key_of
from privsweep.cli.data_checks import check_data
from privsweep.cli.sweep import PlannedRun, plan
from privsweep.interface.errors import UserError
from privsweep.interface.utility import with_finals
from privsweep.run.ahead import train_ahead
from privsweep.run.build import build
from privsweep.run.compose import compose as _compose
from privsweep.run.compose import searching
from privsweep.run.overrides import nearest, parsed
from privsweep.run.run import run
from privsweep.run.run_spec import RunSpec
from privsweep.store.checksums import postponed
from privsweep.store.store import Record, Store
from privsweep.store.writable import check_writable

_OF_COMMAND: dict[str, tuple[str, Any]] = {  # what that asks for and these functions do not, unless it is this
    "plan": ("lists no runs", False),
    "hydra/launcher": ("submits nothing", "basic"),
    "hydra/sweeper": ("makes no search", "basic"),
}
_UNTOLD = ("_target_", "fingerprint")  # the choices say the one, and the other where each is of one content
_READ = {"dataset": "dataset", "prior": "dataset@prior", "fl_setting": "fl_setting"}  # parts that read files: choices


def compose(*overrides: str, config_dir: str | None = None) -> RunSpec:
    """A run as the command line composes it: ``compose("dataset=mnist", "attack=iga", "seed=1")``.

    ``config_dir`` holds choices of your own. Raises UserError, too for what is no single run: a table, plan or search.
    """
    _check_asked("compose", overrides)
    with searching(config_dir), postponed():
        made = _compose(overrides)
        if made.config.get("table"):
            named = f"experiment={made.choices.get('experiment')}"
            raise UserError(f"{named}: is a table, which is many runs; write sweep({named!r})")
        return build(made, fetch=True)


def execute(spec: RunSpec) -> Record:
    """Runs it and files the record; a stored one is returned as it is, unless forced. Raises UserError."""
    if not isinstance(spec, RunSpec):  # in a notebook nothing checks types
        given = f"*{spec!r}" if isinstance(spec, list | tuple) else repr(spec)
        raise UserError(f"execute({spec!r}): takes a run; write execute(compose({given}))")
    return run(spec)


def sweep(*overrides: str, config_dir: str | None = None) -> pd.DataFrame:
    """All combinations of values, or a whole table, here and one after the other; stored results are taken over.

    ``sweep("attack=dlg,iga", "seed=0,1")`` or ``sweep("experiment=zen/table1", "scale=quick")``. Everything is checked
    before the first run. Returns what ``records`` does, a row for each run in the order of the values, with ``status``
    (complete, failed) and, of a table, ``run``, its name there. A run that fails has its ``error`` and does not stop
    the others. Raises UserError.
    """
    _check_asked("sweep", overrides)
    with postponed():
        planned = plan(overrides, config_dir, multirun=True)
        check_data(planned)
    if planned.missing:
        check_writable(planned.runs[0].spec.session.output_dir)
        train_ahead([one.spec for one in planned.missing])
    made = {one.name: _made(one) for one in planned.missing}
    found = [made.get(one.name) or one.record or {} for one in planned.runs]
    told = pd.DataFrame({"status": [record["status"] for record in found]})
    if planned.table:
        told.insert(0, "run", [one.name for one in planned.runs])
    if any("error" in record for record in found):
        told["error"] = [record.get("error") for record in found]
    return told.join(_frame(found, None))


def _check_asked(function: str, overrides: Sequence[Any]) -> None:
    """In a notebook nothing checks types, and nothing would show a plan, search or submit. Raises UserError."""
    for given in overrides:
        if isinstance(given, list | tuple):
            raise UserError(f"{function}({given!r}): takes strings, not a list of them; write {function}(*{given!r})")
        if not isinstance(given, str):
            raise UserError(f"{function}({given!r}): takes strings; write {function}('attack=dlg', 'seed=1')")
    for override in parsed(overrides):
        if function == "compose" and override.is_sweep_override():
            line, key = str(override.input_line), key_of(override)
            raise UserError(
                f"{line}: has several values, and compose makes one run; write sweep({line!r}), "
                f"or a list as {key}=[a,b]"
            )
        unmade, idle = _OF_COMMAND.get(key_of(override), ("", None))
        if unmade and override.value() != idle:
            raise UserError(f"{override.input_line}: {function} {unmade}, the command privsweep does; leave it out")


def _made(one: PlannedRun) -> Record:
    """The record of a run that was missing; of one that failed, what it was and why."""
    try:
        return run(one.spec, before=one.before)
    except UserError as error:
        reason = str(error)
    except Exception as error:  # filed in the store, too
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    spec = one.spec
    told = {"choices": dict(spec.choices), "config": dict(spec.config), "scale": spec.session.scale}
    return {"signature": spec.signature, "status": "failed", "error": reason, **told}


def records(output_dir: str | Path = "outputs", config: str | Iterable[str] | None = None) -> pd.DataFrame:
    """All complete records below ``output_dir``, a row each.

    Columns: signature, choices, seed, scale, then configuration values by their dotted names (``attack.lr``), then
    metrics and utility, that of the final model under ``final_``. ``config`` names the values, or the one; None takes
    those that differ between records which have them, and ``dataset.fingerprint``, a checksum, where one choice stands
    for several files. A list of values is its text, so that rows can be grouped by it.

    Raises UserError for a name in ``config`` that no record has, and where there is no such folder.
    """
    if not Path(output_dir).is_dir():
        raise UserError(f"output_dir={output_dir}: no such folder; name the one that runs were written to")
    named = [config] if isinstance(config, str) else config
    return _frame(Store(Path(output_dir)).records(), None if named is None else list(named))


def _frame(found: Sequence[Record], config: Sequence[str] | None) -> pd.DataFrame:
    flat = [dict(_flat(record["config"])) for record in found]
    names = [*_contents(found), *_differing(flat)] if config is None else config
    known = {name for values in flat for name in values}
    if unknown := [name for name in names if flat and name not in known]:
        raise UserError(f"config={unknown[0]}: no stored run has such a key; {nearest(unknown[0], known)}")
    rows = [
        {
            "signature": record["signature"],
            **{k: ",".join(v) if isinstance(v, list) else v for k, v in record["choices"].items()},
            "seed": record["config"]["seed"],
            "scale": record["scale"],
            **{name: values.get(name) for name in names},
            **record.get("metrics", {}),
            **with_finals(record.get("utility", {})),
        }
        for record, values in zip(found, flat, strict=True)
    ]
    return pd.DataFrame(rows)


def _contents(found: Sequence[Record]) -> list[str]:
    """Checksums of the files of a choice, such as npz, that stands for several: a record keeps no path."""
    names = []
    for part, group in _READ.items():
        pairs = {(r["choices"].get(group), (r["config"].get(part) or {}).get("fingerprint")) for r in found}
        if len(pairs) > len({choice for choice, _ in pairs}):
            names.append(f"{part}.fingerprint")
    return names


def _differing(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names under a group whose values differ between those that have them, in the order of their first record."""
    values: dict[str, set[Any]] = {}
    for one in flat:
        for name, value in one.items():
            values.setdefault(name, set()).add(value)
    return [n for n, found in values.items() if len(found) > 1 and "." in n and n.rpartition(".")[2] not in _UNTOLD]


def _flat(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(value) if isinstance(value, list) else value
