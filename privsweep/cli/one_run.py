"""What ``privsweep-store show`` tells of one run: what it is, what came of it, and how to make it again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from privsweep.cli import terminal
from privsweep.interface.errors import UserError
from privsweep.report.in_words import in_words
from privsweep.run.again import Again
from privsweep.run.header import title_of
from privsweep.run.heartbeat import beats
from privsweep.store.inventory import Entry, record_in
from privsweep.store.store import Record

_MOST = 5  # signatures that are named where several begin alike


def show(output_dir: Path, entries: list[Entry], beginning: str, config_dir: str | None) -> None:
    """Prints it. Raises UserError where no run, or more than one, begins like that."""
    living = {sign: beat for sign, (beat, lives) in beats(output_dir).items() if lives}
    kept = {
        (e.kind, e.name): e for e in entries if e.kind in ("runs", "failed", "partial") and not (e.draft or e.spoilt)
    }
    sign = _only(beginning, {name for _, name in kept} | living.keys(), output_dir)
    run, failure, parts = (kept.get((kind, sign)) for kind in ("runs", "failed", "partial"))
    found = run or failure
    record = record_in(found.path) if found else None
    if found and record is None:
        raise UserError(f"{sign}: its record in {found.path} cannot be read; the command that made it makes it again")
    if record:
        try:
            _tell(record, config_dir)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{sign}: its record lacks what privsweep writes ({error}); see the file itself") from error
    if run:
        _files(run.path)
    if sign in living:
        _say("in progress", f"{living[sign].title}: {living[sign].told}")
    if parts:
        count = sum(path.is_file() for path in parts.path.rglob("*"))
        files = f"{count} file{'s' * (count != 1)}"
        _say("unfinished", f"{files} in {parts.path}; the command that made them goes on from there")
    if record:
        where = "" if output_dir == Path("outputs") else f" {shlex.quote(f'output_dir={output_dir}')}"
        _say("make it again", f"{Again(config_dir)(record)}{where}")


def _only(beginning: str, signs: set[str], output_dir: Path) -> str:
    found = sorted(sign for sign in signs if sign.startswith(beginning))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{beginning}: no run in {output_dir} begins like that; privsweep-store runs lists them")
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    raise UserError(f"{beginning}: so begin {', '.join(found[:_MOST])}{more}; give more of it")


def _tell(record: Record, config_dir: str | None) -> None:
    choices, config, about = record["choices"], record["config"], record.get("environment") or {}
    title = f"[bold]{terminal.plain(title_of(choices, config))}[/], seed {terminal.plain(config.get('seed'))}"
    terminal.out.print(
        f"{terminal.plain(record['signature'])}: {title}; scale: {terminal.plain(record['scale'])}", soft_wrap=True
    )
    if record["status"] == "complete":
        device = f"{about.get('device')} ({about.get('device_name')}), commit {about.get('commit')}"
        _say("complete", f"{str(about.get('date'))[:16].replace('T', ' ')} on {device}")
    else:
        _say(record["status"], record.get("error"))
    if choices.get("experiment"):
        _say("experiment", choices["experiment"])
    if choices.get("dataset@prior") or record.get("adversary_data"):
        _say("the adversary's own data", record.get("adversary_data") or choices["dataset@prior"])
    threat = record["threat_model"]
    _say("threat model", f"{threat['security']} {threat['position']}, {threat['time']} time, {threat['access']}")
    changed = [o for o in Again(config_dir).overrides(record) if re.match(r"[+]*\w+\.", o)]
    _say("changed", " ".join(changed) or "nothing; its choices are as their files state them")
    if record["status"] == "complete":
        _numbers(record)


def _numbers(record: Record) -> None:
    if record["metrics"]:
        terminal.out.print(terminal.metrics_table(record["metrics"]))
    if record["utility"]:
        terminal.out.print(terminal.utility_in_words(record["utility"]), soft_wrap=True)
    for name, budget in record["privacy"].items():
        terminal.out.print(terminal.budget_in_words(name, {"covers": "?", **budget}), soft_wrap=True)
    terminal.out.print(terminal.seconds_in_words(record["seconds"]), soft_wrap=True)
    terminal.out.print(f"[bold]{terminal.plain(in_words(record))}[/]", soft_wrap=True)


def _files(folder: Path) -> None:
    _say(f"files in {folder}", ", ".join(sorted(path.name for path in folder.iterdir())))


def _say(what: str, told: object) -> None:
    terminal.say(f"{what}: {told}")
