"""The ``privsweep-store`` command: what the output folder holds, and what of it can go."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from privsweep.cli.one_line import one_line
from privsweep.cli.sizes import size
from privsweep.cli.store_request import BY, Request, requested
from privsweep.interface.errors import UserError
from privsweep.interface.keys import check_config_dir
from privsweep.interface.printable import printable
from privsweep.store.full_disk import no_room
from privsweep.store.inventory import KINDS, SHARED, Entry, inventory, key_of, record_in, remove, under_way

_DESCRIPTION = """\
Tells what an output folder holds, in a line each, and removes what is of no more use to any command.

  privsweep-store                      sizes and counts; runs by experiment
  privsweep-store by=attack,dataset    runs by other choices: %s
  privsweep-store systems              every entry of one folder: %s
  privsweep-store show 3f9a            a run by the beginning of its signature: what it is, its numbers and files, and
                                       the command that makes it again
  privsweep-store prune                what would be removed, and why; nothing is
  privsweep-store prune yes=true       removes it
  privsweep-store pack TABLE.csv       the runs behind a table of paper/, in one file beside it; several tables may be
                                       named, and to=FILE; without a table, to=FILE takes all complete runs
  privsweep-store unpack FILE          stores the runs that such a file holds

prune removes runs that no command finds any more, for the code has changed; what is left of runs that are complete;
logs, failures and unfinished work older than days=30; drafts of killed processes and files that could not be read;
and systems, preparations and rows that no stored run uses, unless a run is under way or unfinished. What a running
sweep works on stays. The tables of paper/, links, and whatever privsweep did not write are never touched.

pack takes the files with a run's numbers; pictures=true takes all of them.
""" % (", ".join(BY), ", ".join(KINDS))  # noqa: UP031


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 2 the request was refused."""
    parser = argparse.ArgumentParser(
        "privsweep-store",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="folder, show, prune or key=value")
    parser.add_argument("--yes", action="store_true", help="with prune: remove, the same as yes=true")
    parser.add_argument("--config-dir", help="with show: your own configuration, searched besides the built-in one")
    try:
        options = one_line(parser, "privsweep-store").parse_intermixed_args(argv)
        asked = requested([*options.words, *(["yes=true"] if options.yes else [])])
        if options.config_dir is not None and asked.action != "show":
            raise UserError(f"--config-dir={options.config_dir}: goes with show; leave it out")
        check_config_dir(options.config_dir)
        if asked.action == "unpack":
            from privsweep.cli.packed import unpacked  # here and below, for a list needs neither this nor Hydra

            unpacked(asked)
            return 0
        entries = inventory(asked.output_dir)
        if asked.action == "prune":
            _prune(asked, entries)
        elif asked.action == "pack":
            from privsweep.cli.packed import packed

            packed(asked)
        elif asked.action == "show":
            from privsweep.cli.one_run import show

            show(asked.output_dir, entries, asked.run, options.config_dir)
        elif asked.action:
            _list([entry for entry in entries if entry.kind == asked.action])
        else:
            _overview(asked, entries)
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}); see to its permissions, or name another folder"
        strange = f"output_dir={asked.output_dir}: {reason}"
        print(printable(no_room(asked.output_dir, error) or strange), file=sys.stderr)
        return 2
    return 0


def _overview(asked: Request, entries: Sequence[Entry]) -> None:
    _say(f"{asked.output_dir}: {size(entry.size for entry in entries)} in {_count(entries)}")
    for kind in KINDS:
        own = [entry for entry in entries if entry.kind == kind]
        if own:
            dates = f"{day(min(e.changed for e in own))} to {day(max(e.changed for e in own))}"
            _say(f"  {kind:<10}{len(own):>7,}  {size(e.size for e in own):>9}  {dates}")
    if running := under_way(asked.output_dir):
        _say(f"  under way now: {', '.join(running)}")
    groups: Counter[str] = Counter()
    sizes: dict[str, int] = defaultdict(int)
    for entry in entries:
        if entry.kind == "runs" and (record := record_in(entry.path)):
            label = ", ".join(_value(record, name) for name in asked.by)
            groups[label] += 1
            sizes[label] += entry.size
    if groups:
        _say(f"runs by {', '.join(asked.by)}:")
    for label in sorted(groups):
        _say(f"  {groups[label]:>7,}  {size([sizes[label]]):>9}  {label}")


def _list(entries: Sequence[Entry]) -> None:
    for entry in entries:
        _say(f"{entry.path.name}  {size([entry.size]):>9}  {day(entry.changed)}  {_about(entry)}".rstrip())
    _say(f"{_count(entries)}, {size(entry.size for entry in entries)}")


def _prune(asked: Request, entries: Sequence[Entry]) -> None:
    from privsweep.run.superseded import superseded  # here, for it asks components, and they want PyTorch

    found, kept = superseded(asked.output_dir, entries, asked.days, _wanted(asked.output_dir))
    removed, busy = [], 0
    for entry, reason in found:
        if asked.yes and not _may_go(asked.output_dir, entry):
            busy += 1
            continue
        removed.append(entry)
        where = entry.path.relative_to(asked.output_dir)
        _say(f"{'removed' if asked.yes else 'would go'}  {size([entry.size]):>9}  {where}  ({reason})")
    if kept:
        _say(f"systems, preparations and rows stay: {kept}")
    done = f"{len(removed)} of {_count(entries)}, {size(entry.size for entry in removed)}"
    if asked.yes:
        _say(f"removed {done}" + (f"; {busy} in use stayed" if busy else ""))
    else:
        _say(f"{done} can go" + ("; nothing is removed without yes=true" if removed else ""))


def _wanted(root: Path) -> set[tuple[str, str]]:
    """Logs, notes and unfinished work of sweeps that are under way, be it in SLURM's queue; by folder and name."""
    from privsweep.cli.states import Observer
    from privsweep.store import sweeps

    observer, wanted = Observer(root), set[tuple[str, str]]()
    for path, sweep in sweeps.every(root):
        if left := observer.left(sweep, path):
            wanted |= {("logs", path.stem), ("sweeps", path.stem), *(("partial", cell.signature) for cell in left)}
    return wanted


def _may_go(root: Path, entry: Entry) -> bool:
    """Removes it, unless somebody works on it, or a run began meanwhile that may use it."""
    return not (entry.kind in SHARED and under_way(root)) and remove(root, entry)


def _about(entry: Entry) -> str:
    """An entry in words, as far as it says what it is."""
    if entry.draft or entry.spoilt:
        return "unfinished" if entry.draft else "could not be read"
    if entry.kind in ("runs", "failed"):
        record = record_in(entry.path)
        if record is None:
            return "its record cannot be read"
        names = ("experiment", "dataset", "model", "fl_setting", "attack", "defense", "scale")
        error = f"  {record.get('error')}" if entry.kind == "failed" else ""
        return f"{' '.join(_value(record, name) for name in names)} seed={_value(record, 'seed')}{error}"
    if entry.kind in SHARED:
        key = key_of(entry)
        return " ".join(f"{name}={_brief(value)}" for name, value in key.items() if name not in ("from", "path"))
    return ""


def _brief(value: Any) -> str:
    """A component by its class; its other values would fill the screen."""
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("_target_", "...")).rpartition(".")[2]
    if isinstance(value, list):
        return f"[{','.join(_brief(one) for one in value)}]"
    return str(value)


def _value(record: Mapping[str, Any], name: str) -> str:
    """What a record says of one of ``_BY``; a dash where it says nothing."""
    environment = record.get("environment")
    about = environment if isinstance(environment, Mapping) else {}
    choices = record.get("choices")
    if name == "seed":
        found = record["config"].get("seed")
    elif name == "date":
        found = str(about.get("date", "-"))[:10]
    elif name in ("scale", "device"):
        found = record.get(name, about.get(name))
    else:
        found = choices.get(name) if isinstance(choices, Mapping) else None
    if isinstance(found, list):
        return "+".join(map(str, found)) or "-"
    return "-" if found is None else str(found)


def _count(entries: Sequence[Entry]) -> str:
    return f"{len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}"


def day(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d")


def _say(text: str) -> None:
    print(printable(text) if not text.startswith(" ") else f"  {printable(text)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
