"""What killed processes left in an output folder."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from privsweep.store.atomic import remove_drafts
from privsweep.store.locks import BusyError
from privsweep.store.spoilt import set_aside
from privsweep.store.store import Store

_KINDS = ("runs", "failed", "systems", "prepared", "rows", "partial")  # folders
_SIGN = "[0-9a-f]" * 12
_NEW_NAMES = ("running", "summaries", "sweeps")  # folders whose files are hardly ever written again


def tidy(store: Store) -> None:
    """Removes chunks of runs that are complete, and drafts that nobody has written to for a day.

    What is no folder and stands in the place of one is set aside.
    """
    for kind in _KINDS:
        if os.path.lexists(store.root / kind) and not (store.root / kind).is_dir():
            set_aside(store.root / kind, "not a folder")
    for folder in store.root.glob("partial/*"):
        with suppress(BusyError, OSError), store.lock(f"run-{folder.name}", wait=None):
            if store.complete(folder.name, files=False):
                shutil.rmtree(folder)
    for kind in _KINDS:
        remove_drafts(store.root / kind, f".{_SIGN}.*")
    for kind in _NEW_NAMES:
        remove_drafts(store.root / kind, ".*")
