"""How well an attack tells updates behind which are examples with a property from others."""

from __future__ import annotations

import pandas as pd

from privsweep.interface.guess import Scores
from privsweep.interface.truth import Properties
from privsweep.metric.membership import area_with_interval, ordered, share


def score_properties(guess: Scores, truth: Properties) -> tuple[dict[str, float | None], pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a victim.

    ``property_accuracy`` of the attack's own decisions, a share from 0 to 1, and ``property_auc`` of its scores, each
    with the ends of its 95% interval under ``_low`` and ``_high``, as ``score_membership`` has them.

    Table: ``victim``, ``property`` (whether it is there), ``score``, ``decision`` and every diagnostic.
    """
    present, scores = truth.present.cpu().numpy(), ordered(guess)
    decisions = guess.decisions.cpu().numpy()
    hits = decisions == present
    metrics: dict[str, float | None] = {}
    share(metrics, "property_accuracy", int(hits.sum()), len(hits))
    metrics |= area_with_interval("property_auc", scores[present], scores[~present])
    rows = pd.DataFrame({"victim": range(len(present)), "property": present, "score": scores, "decision": decisions})
    for name, values in guess.diagnostics.items():
        rows[name] = values.detach().cpu().numpy()
    return metrics, rows
