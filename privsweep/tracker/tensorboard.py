"""TensorBoard: every run is a folder of events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from privsweep.interface.component import component
from privsweep.tracker.results import results_of


@component
class TensorBoard:
    """Writes to ``<folder>/<signature>``; ``tensorboard --logdir <folder>`` shows it."""

    folder: str
    package: ClassVar[str] = "tensorboard"

    def remote(self) -> Mapping[str, str]:
        return {"folder": self.folder}

    def log(self, record: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        found = results_of(record, folder)
        place = Path(self.folder) / found.signature
        # A run that is logged again, for it was forced, takes the place of the earlier one.
        with SummaryWriter(str(place), purge_step=0) as writer:
            params = "\n".join(f"- {key}: {value}" for key, value in found.params.items())
            writer.add_text("configuration", f"{found.name}\n\n{params}")
            for name, value in found.numbers.items():
                writer.add_scalar(name.replace(".", "/"), value, 0)
            for name, curve in found.curves.items():
                for step, value in curve:
                    writer.add_scalar(name.replace(".", "/"), value, step)
            for picture in found.pictures:
                with Image.open(picture) as image:
                    writer.add_image(picture.stem, np.asarray(image.convert("RGB")), 0, dataformats="HWC")
            writer.add_hparams(dict(found.params), dict(found.numbers), run_name=".")
