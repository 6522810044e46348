"""Finished runs are handed to the tracker that was chosen; a run never suffers from it."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec

from privsweep.interface.printable import printable
from privsweep.interface.tracker import Tracker
from privsweep.run.compose import Composition
from privsweep.run.hydra_settings import inside
from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, Store

log = logging.getLogger(__name__)


def refused_tracker(composed: Composition, tracker: Tracker | None) -> list[str]:
    """Why it cannot be used: it is not installed, or a file would send results elsewhere than where they go."""
    if tracker is None:
        return []
    name = composed.choices.get("tracker")
    if find_spec(tracker.package) is None:
        return [f"tracker={name}: {tracker.package} is not installed; run: pip install 'privsweep[{tracker.package}]'"]
    typed = {override.partition("=")[0].lstrip("+") for override in composed.overrides}
    output_dir = str(composed.config["output_dir"])
    return [
        f"tracker.{key}={value}: leads out of the output folder {output_dir}; type it to send results there"
        for key, value in tracker.remote().items()
        if f"tracker.{key}" not in typed and ("://" in value or key == "mode" or not inside(value, output_dir))
    ]


def track(spec: RunSpec, record: Record, store: Store) -> None:
    """Hands a run over that was computed now. What goes wrong there is told in one line, and in the job's log."""
    if spec.tracker is None:
        return
    try:
        spec.tracker.log(record, store.folder(record["signature"]))
    except Exception as error:
        log.warning("the tracker failed", exc_info=error)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"tracker: run {record['signature']} is stored, but was not handed over ({reason})"
        print(printable(message), file=sys.stderr, flush=True)
