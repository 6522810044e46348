"""Weights & Biases: every run is a run of a project there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from privsweep.interface.component import component
from privsweep.tracker.results import results_of


@component
class WeightsAndBiases:
    """Offline, it writes to ``<folder>/wandb``; ``wandb sync`` uploads that from a machine with a network."""

    folder: str
    project: str
    mode: Literal["offline", "online"]
    package: ClassVar[str] = "wandb"

    def remote(self) -> Mapping[str, str]:
        return {"folder": self.folder, **({"mode": self.mode} if self.mode == "online" else {})}

    def log(self, record: Mapping[str, Any], folder: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing leaves the machine offline
        import wandb

        found = results_of(record, folder)
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True)
        run = wandb.init(
            project=self.project, name=found.name, mode=self.mode, dir=self.folder, settings=quiet,
            config={"signature": found.signature, **found.params}, reinit="create_new",
        )  # fmt: skip
        for name, curve in found.curves.items():
            run.define_metric(name, step_metric=f"{name}.step")
            for step, value in curve:
                run.log({name: value, f"{name}.step": step})
        run.log({picture.stem: wandb.Image(str(picture)) for picture in found.pictures})
        run.summary.update(dict(found.numbers))
        run.finish()
