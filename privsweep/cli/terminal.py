"""What the terminal shows of runs, and what goes wrong."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from privsweep.cli.same_command import same_command
from privsweep.interface.printable import printable
from privsweep.report.in_words import headlines, in_words, number, percent, threat_in_words
from privsweep.run.companions import lines
from privsweep.store.environment import processor
from privsweep.store.store import Record, Store

if TYPE_CHECKING:
    from privsweep.cli.sweep import SweepPlan
    from privsweep.run.run_spec import RunSpec

WIDTH = None if sys.stdout.isatty() else 160  # columns, where the output is no terminal
out = Console(width=WIDTH, highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)
PICTURES = ("reconstructions.png", "roc.png", "sentences.md")  # the first that a run has is what to look at


def paint() -> None:
    """Colours though nothing goes to a terminal from here: another process shows it on one."""
    global out, err
    out = Console(width=WIDTH, highlight=False, emoji=False, force_terminal=True)
    err = Console(stderr=True, highlight=False, emoji=False, force_terminal=True)


def complain(message: str) -> None:
    """One line an error, to stderr, without a traceback."""
    for line in message.splitlines():
        err.print(f"[bold red]privsweep:[/] {plain(line)}", soft_wrap=True)


def say(message: str) -> None:
    """One line, as it is, to the standard output."""
    out.print(plain(message), soft_wrap=True)


def brought(planned: SweepPlan) -> None:
    """What was not typed and came with what was, and what was typed and goes with some runs only, a line each."""
    for line in dict.fromkeys([*(line for run in planned.runs for line in lines(run.spec.brought)), *planned.unset]):
        out.print(plain(line), soft_wrap=True)


def failed(name: str, reason: str, log: Path | None) -> None:
    """One line for a run that failed, to stderr, with the place of its log."""
    where = "" if log is None else f"; log: {plain(_near(log))}"
    err.print(f"[bold red]failed:[/] {plain(name)}: {plain(reason or 'no reason is known')}{where}", soft_wrap=True)


def _near(path: Path) -> Path:
    """As seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def start(spec: RunSpec) -> None:
    """Where and against what threat model the run goes, in two lines; and how to spare a training, in a third."""
    import torch  # here, as what goes with it, for a refusal needs none of it

    from privsweep.cli.go_on import spared
    from privsweep.run.header import threat_of, title_of

    device = spec.session.resolve_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = f", {spec.session.threads or torch.get_num_threads()} threads" if device.type == "cpu" else ""
    out.print(f"[bold]{plain(title_of(spec.choices, spec.config))}[/], seed {spec.session.seed}", soft_wrap=True)
    out.print(f"device: {device} ({plain(name)}{threads}); scale: {spec.session.scale}", soft_wrap=True)
    if spec.attack.observes is not None:
        out.print(f"threat model: {threat_in_words(threat_of(spec))}", soft_wrap=True)
    if key := spared(spec):
        out.print(f"the attack sees the untrained model alone: {key} leaves out the training, and its accuracy")


def finish(spec: RunSpec, record: Record, next_step: tuple[str, str] | None = None) -> None:
    """Figures and files, and at the end the answer in words; ``next_step``: a command that goes on, and what for."""
    folder = Store(spec.session.output_dir).folder(record["signature"])
    if record.get("reused"):
        how = ", since this command began; not repeated" if spec.session.force else "; force=true runs it again"
        out.print(f"stored on {plain(record['environment']['date'])}{how}")
    hidden = tuple(f"_{answer}" for answer in record.get("answers", []))  # the record has them
    metrics = {name: v for name, v in record["metrics"].items() if not name.endswith(hidden)}
    if record["utility"]:
        out.print(utility_in_words(record["utility"]))
    for name, budget in record["privacy"].items():
        out.print(budget_in_words(name, {**budget, "covers": spec.covers(name)}))
    if metrics and spec.session.verbose:
        out.print(metrics_table(metrics))
    elif metrics:
        out.print("metrics: " + ", ".join(f"{_name(k)} {number(metrics[k])}" for k in headlines(metrics)))
    out.print(seconds_in_words(record["seconds"]))
    if spec.session.verbose:
        out.print("written: " + ", ".join(plain(p.name) for p in sorted(folder.iterdir())))
    out.print(f"[bold]{plain(in_words(record))}[/]", soft_wrap=True)
    picture = next((folder / name for name in PICTURES if (folder / name).exists()), None)
    out.print(f"{'see' if picture else 'in'} {plain(picture or folder)}", soft_wrap=True)
    if next_step is not None:
        out.print(f"next: {plain(next_step[0])}  [dim]# {plain(next_step[1])}[/]", soft_wrap=True)


def utility_in_words(utility: Mapping[str, float | None]) -> str:
    """What the model is worth, in markup."""
    shown = {k: v for k, v in utility.items() if not k.endswith(("_low", "_high"))}
    return "utility: " + ", ".join(f"{_name(k)} {_share(k, v)}" for k, v in shown.items())


def budget_in_words(defense: str, budget: Mapping[str, Any]) -> str:
    """What the privacy of a whole training costs, and whom that covers, in markup."""
    spent = ", ".join(f"{_name(k)} {v:.4g}" for k, v in budget.items() if k != "covers")
    return f"privacy of {plain(defense)}: {spent}; covers {plain(budget['covers'])}"


def seconds_in_words(seconds: Mapping[str, float]) -> str:
    """Those that can be seen in tenths, and their total, in markup."""
    shown = {k: v for k, v in seconds.items() if (v >= 0.05 and k != "per_victim") or k == "total"}
    return f"seconds: {', '.join(f'{_name(k)} {v:.1f}' for k, v in shown.items())}"


def _share(name: str, value: float | None) -> str:
    return percent(value) if name.endswith("accuracy") else number(value)


def metrics_table(metrics: Mapping[str, float | None]) -> RichTable:
    """Means over victims, and medians or 95% intervals where there are any."""
    table = RichTable(box=None, pad_edge=False)
    for head, justify in (("metric", "left"), ("mean", "right"), ("median, or 95%", "right")):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    for name, value in metrics.items():
        if name.endswith(("_median", "_low", "_high")):
            continue
        median = metrics.get(f"{name}_median", "")
        both = (number(value), median if median == "" else number(median))
        if f"{name}_low" in metrics:
            ends = (number(metrics[f"{name}_{end}"]) for end in ("low", "high"))
            both = (number(value), f"[{', '.join(ends)}]")
        shown = reversed(both) if name == "iterations_to_zero" else both
        table.add_row(*map(Text, (printable(name), *shown)))
    return table


def stopped(planned: SweepPlan) -> None:
    """One line on what an interrupted command leaves, and how to go on."""
    now = planned.looked_up()
    store = Store(now.runs[0].spec.session.output_dir)
    left = [run for run in now.runs if not run.complete]
    parts = sum(len([*store.partial(run.spec.signature).glob("[!.]*.safetensors")]) for run in left)
    runs = "" if len(now.runs) == 1 else f"{len(now.runs) - len(left)} of {len(now.runs)} runs, "
    kept = _trials(planned) if planned.search else f"{runs}{parts} part{'s' * (parts != 1)} of a run"
    complain(
        f"interrupted; what was finished is kept in {store.root} ({kept}): the same command goes "
        f"on from there: {shlex.join(same_command(planned))}"
    )


def _trials(planned: SweepPlan) -> str:
    """How far a search has come: its runs in the plan are the ends of what it chooses from."""
    from privsweep.cli.trials import every  # here, for it tells its trials by this module

    return f"{len([*every(Path(planned.sweep_dir))])} of {planned.hydra['sweeper']['n_trials']} trials"


def plain(text: object) -> str:
    """Text as it is, in one line: to rich brackets are markup, to a terminal some characters are commands."""
    return escape(printable(str(text)))


def _name(key: str) -> str:
    return plain(key.replace("_", " "))
