"""MLflow: every run is a run of an experiment there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from privsweep.interface.component import component
from privsweep.tracker.results import results_of

_BATCH = 100  # parameters that MLflow takes in one call
_LONGEST = 6000  # characters of one


@component
class MLflow:
    """Writes to a folder, or to a server."""

    uri: str  # a folder, or the address of a server
    experiment: str
    package: ClassVar[str] = "mlflow"

    def remote(self) -> Mapping[str, str]:
        return {"uri": self.uri}

    def log(self, record: Mapping[str, Any], folder: Path) -> None:
        # A folder needs no database, and jobs on several machines can write to it at once.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # which tells its makers who uses it
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        found = results_of(record, folder)
        client = MlflowClient(self.uri if "://" in self.uri else Path(self.uri).absolute().as_uri())
        known = client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else client.create_experiment(self.experiment)
        tags = {"privsweep.signature": found.signature, "privsweep.commit": str(record["environment"]["commit"])}
        run = client.create_run(experiment, run_name=found.name, tags=tags).info.run_id
        params = [Param(_name(key), value[:_LONGEST]) for key, value in found.params.items()]
        for start in range(0, len(params), _BATCH):
            client.log_batch(run, params=params[start : start + _BATCH])
        metrics = [Metric(_name(name), value, 0, 0) for name, value in found.numbers.items()]
        metrics += [
            Metric(_name(name), value, 0, step) for name, curve in found.curves.items() for step, value in curve
        ]
        for start in range(0, len(metrics), 10 * _BATCH):
            client.log_batch(run, metrics=metrics[start : start + 10 * _BATCH])
        for picture in found.pictures:
            client.log_artifact(run, str(picture))
        client.set_terminated(run)


def _name(text: str) -> str:
    """In the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", text)
