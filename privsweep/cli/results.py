"""What the terminal shows of whole tables and sweeps, and their files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from privsweep.cli import terminal
from privsweep.cli.sweep import PlannedRun, SweepPlan
from privsweep.report.summary import summary
from privsweep.report.summary_terminal import summary_terminal
from privsweep.report.table_terminal import table_terminal
from privsweep.report.write import write
from privsweep.store.atomic import whole_file
from privsweep.store.store import Record, Store
from privsweep.table.fill import fill_table


def table(planned: SweepPlan) -> int:
    """Lays a table out, writes it and shows it; the exit code."""
    assert planned.table is not None
    session = planned.runs[0].spec.session
    given = planned.typed_but("experiment", "scale", "force", "verbose", "cell")
    folder = Store(session.output_dir).folder
    filled = fill_table(planned.table, planned.records(), session.scale, given, folder, planned.at_papers_scale())
    terminal.out.print(table_terminal(filled, terminal.out.width))
    if filled.complete:
        _written(write(filled, session.output_dir))
    return 1 if planned.missing or filled.misnamed else 0


def summarise(planned: SweepPlan) -> int:
    """The summary of an ad hoc sweep, mean and standard deviation over seeds; the exit code."""
    session = planned.runs[0].spec.session
    made = summary([run.record or _absent(run) for run in planned.runs], planned.swept, session.summary)
    terminal.out.print(summary_terminal(made, terminal.out.width))
    stem = session.output_dir / "summaries" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    paths = [stem.with_suffix(".md"), stem.with_suffix(".csv")]
    for path, text in zip(paths, (made.markdown(), made.csv()), strict=True):
        with whole_file(path) as draft:
            draft.write_text(text)
    _written(paths)
    for problem in made.problems:
        terminal.complain(problem)
    terminal.out.print(f"[bold]{terminal.plain(made.words)}[/]", soft_wrap=True)
    return 0 if all(run.complete for run in planned.runs) else 1


def _absent(run: PlannedRun) -> Record:
    """A run of which nothing is stored, not even its failure: its job was lost."""
    spec = run.spec
    known = {"choices": spec.choices, "config": spec.config}
    return {"status": "missing", **known, "metrics": {}, "utility": {}}


def _written(paths: list[Path]) -> None:
    terminal.out.print("written: " + ", ".join(map(terminal.plain, paths)), soft_wrap=True)
