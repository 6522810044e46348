"""privsweep from Python: compose a run, execute it, read what is stored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from privsweep.run.build import build
from privsweep.run.compose import compose as _compose
from privsweep.run.compose import searching
from privsweep.run.run import run
from privsweep.run.run_spec import RunSpec
from privsweep.store.checksums import postponed
from privsweep.store.store import Record, Store


def compose(*overrides: str, config_dir: str | None = None) -> RunSpec:
    """A run as the command line composes it: ``compose("dataset=mnist", "attack=iga", "seed=1")``.

    ``config_dir`` holds choices of your own. Raises UserError.
    """
    with searching(config_dir), postponed():
        return build(_compose(overrides), fetch=True)


def execute(spec: RunSpec) -> Record:
    """Runs it and files the record; a stored one is returned as it is, unless forced. Raises UserError."""
    return run(spec)


def records(output_dir: str | Path = "outputs") -> pd.DataFrame:
    """All complete records below ``output_dir``, a row each: choices, seed, scale, metrics, utility and signature."""
    rows = [
        {
            "signature": record["signature"],
            **{k: ",".join(v) if isinstance(v, list) else v for k, v in record["choices"].items()},
            "seed": record["config"]["seed"],
            "scale": record["scale"],
            **record["metrics"],
            **record["utility"],
        }
        for record in Store(Path(output_dir)).records()
    ]
    return pd.DataFrame(rows)
