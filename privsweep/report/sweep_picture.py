"""What the runs of a sweep reconstructed, as one picture beside its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from privsweep.store.images import FILE, first_images
from privsweep.store.store import Record, Store
from privsweep.table.number_format import UNKNOWN, show
from privsweep.table.readings import look_up

MOST_RUNS, MOST_IMAGES = 24, 8


def sweep_picture(
    path: Path, records: Sequence[Record], varied: Sequence[Mapping[str, str]], store: Store
) -> Path | None:
    """A PNG of the first images of the first runs; None where fewer than two runs have any.

    Runs on the same originals, as those of one seed are, stand together below them. ``varied``: what was typed for
    each, by swept key, which names a line; its number is the mean SSIM of all victims.
    """
    complete = [(r, typed) for r, typed in zip(records, varied, strict=True) if r["status"] == "complete"]
    found = [(record, typed, store.folder(record["signature"])) for record, typed in complete]
    kept = [(record, typed, folder) for record, typed, folder in found if (folder / FILE).is_file()]
    if len(kept) < 2:
        return None
    from privsweep.plot.contact_sheet import Line, contact_sheet  # here: a sweep without images needs no matplotlib

    lines = []
    for record, typed, folder in kept[:MOST_RUNS]:
        if (images := first_images(folder, MOST_IMAGES)) is None:
            continue
        *originals, guesses = (each / 255 for each in images)
        name = ", ".join(f"{key}={value}" for key, value in typed.items() if value)
        ssim = look_up(record, "ssim")
        number = "" if ssim is UNKNOWN else f"mean SSIM {show(ssim, '.2f')}"
        lines.append(Line(name, number, originals[0] if originals else None, guesses))
    if len(lines) < 2:
        return None
    seen = [b"" if line.originals is None else line.originals.tobytes() for line in lines]
    lines = [line for _, line in sorted(zip(map(seen.index, seen), lines, strict=True), key=lambda pair: pair[0])]
    return contact_sheet(path, lines, max(0, len(kept) - MOST_RUNS))
