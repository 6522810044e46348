"""A small store of runs and tables, as the page of everything finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from report_world import record

from privsweep.report.markdown import markdown
from privsweep.report.page.page import Contents, UnderWay, page
from privsweep.report.page.published import published_in
from privsweep.report.table_csv import table_csv
from privsweep.store.images import save_images
from privsweep.table.fill import FilledTable, Record


def html(
    root: Path, *records: Record, experiments: tuple[str, ...] = (), running: tuple[UnderWay, ...] = (),
    config_dir: str | None = None,
) -> str:  # fmt: skip
    """The page of these records, of runs in progress and of what lies below ``root``."""
    contents = Contents(records, published_in(root), running, experiments, str(root), config_dir)
    return page(contents, lambda signature: root / "runs" / signature, lambda record: "privsweep seed=0")


def publish(filled: FilledTable, root: Path, name: str = "zen/table1") -> None:
    """The texts of a table, without its pictures."""
    path = root / "paper" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(filled), encoding="utf-8")
    path.with_suffix(".csv").write_text(table_csv(filled), encoding="utf-8")


def store_files(folder: Path) -> None:
    """A run's images, curves and sentences."""
    folder.mkdir(parents=True)
    images = np.linspace(0, 1, 3 * 8 * 8).reshape(3, 1, 1, 8, 8)
    save_images(folder, images, images[::-1], {})
    rows = [f"{i},{v},{10.0 ** -(i + v)}" for v in (0, 1, 2) for i in range(100)]
    (folder / "curve.csv").write_text("\n".join(["iteration,victim,distance", *rows]))
    rounds = ["round,loss,train_accuracy,test_accuracy", "1,2.0,,", "2,1.5,0.5,0.25", "3,,0.75,0.5"]
    (folder / "training.csv").write_text("\n".join(rounds))
    (folder / "roc.csv").write_text("false_positive_rate,true_positive_rate\n0,0\n0,0.5\n1,1\n")
    (folder / "sentences.csv").write_text("victim,truth,guess\n0,a dog,a cat\n")


def failed(seed: int, error: str, **changes: Any) -> dict[str, Any]:
    known = {k: record(seed, None)[k] for k in ("signature", "scale", "config", "choices")}
    return known | {"status": "failed", "error": error} | changes
