"""What the terminal shows of whole tables and sweeps, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path

from privsweep.cli import terminal
from privsweep.cli.cells import values_in
from privsweep.cli.sweep import SweepPlan
from privsweep.report.summary import summary
from privsweep.report.summary_terminal import summary_terminal
from privsweep.report.sweep_picture import sweep_picture
from privsweep.report.table_terminal import table_terminal
from privsweep.report.write import write
from privsweep.store.atomic import whole_file
from privsweep.store.full_disk import full_disk
from privsweep.store.store import Record, Store
from privsweep.table.fill import fill_table

_LOST: Record = {"status": "missing", "metrics": {}, "utility": {}}  # of a lost job not even its failure is stored


def table(planned: SweepPlan) -> int:
    """Lays a table out, writes it and shows it; the exit code."""
    assert planned.table is not None
    session = planned.runs[0].spec.session
    given = planned.typed_but("experiment", "scale", "force", "verbose", "cell")
    folder = Store(session.output_dir).folder
    filled = fill_table(
        planned.table, planned.records(), session.scale, given, folder, planned.at_papers_scale(), planned.config_dir
    )
    terminal.out.print(table_terminal(filled, terminal.out.width))
    wrote = not filled.complete or _wrote(session.output_dir, lambda: write(filled, session.output_dir))
    return 0 if wrote and all(run.complete for run in planned.runs) and not filled.misnamed else 1


def summarise(planned: SweepPlan) -> int:
    """The summary of an ad hoc sweep, mean and standard deviation over seeds; the exit code."""
    session = planned.runs[0].spec.session
    found = [run.record or _LOST for run in planned.runs]
    varied = [values_in(run.overrides, planned.swept) for run in planned.runs]
    made = summary(found, varied, session.summary)
    terminal.out.print(summary_terminal(made, terminal.out.width))
    draw = partial(sweep_picture, records=found, varied=varied, store=Store(session.output_dir))
    wrote = file_summary(session.output_dir, {".md": made.markdown(), ".csv": made.csv()}, draw)
    for problem in made.problems:
        terminal.complain(problem)
    terminal.out.print(f"[bold]{terminal.plain(made.words)}[/]", soft_wrap=True)
    return 0 if wrote and not made.problems and all(run.complete for run in planned.runs) else 1


def file_summary(
    output_dir: Path, texts: Mapping[str, str], draw: Callable[[Path], Path | None] = lambda _: None
) -> bool:
    """Writes a summary's ``texts``, by the ends of their files' names, and says where; whether it could.

    ``draw``: a PNG at that place, if there is anything to draw.
    """

    def files() -> list[Path]:
        stem = _new_name(output_dir / "summaries")
        try:
            for end, text in texts.items():
                with whole_file(stem.with_suffix(end)) as draft:
                    draft.write_text(text, encoding="utf-8")
        except BaseException:  # a full disk, or Ctrl-C: half a summary is none
            for end in texts:
                stem.with_suffix(end).unlink(missing_ok=True)
            raise
        picture = draw(stem.with_suffix(".png"))
        return [*(stem.with_suffix(end) for end in texts), *([picture] if picture else [])]

    return _wrote(output_dir, files)


def _new_name(folder: Path) -> Path:
    """By the time; of several sweeps that end in one second, each its own, which its first file holds."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (now if n == 1 else f"{now}_{n}" for n in count(1))
    return next(folder / name for name in names if _made(folder / f"{name}.md"))


def _made(path: Path) -> bool:
    """Whether there was no such file before."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _wrote(output_dir: Path, write: Callable[[], list[Path]]) -> bool:
    """Says which files were written, or that what is shown could not be; whether they were."""
    try:
        paths = write()
    except OSError as error:
        if full_disk(error):
            raise
        reason = f"{error.strerror or error}); copy that folder, and choose the copy, to have the files"
        terminal.complain(f"output_dir={output_dir}: is read, but cannot be written ({reason}")
        return False
    terminal.out.print("written: " + ", ".join(map(terminal.plain, paths)), soft_wrap=True)
    return True
