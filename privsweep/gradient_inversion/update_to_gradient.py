"""The gradient behind a captured update: the update itself, or a weight difference rescaled."""

from __future__ import annotations

from privsweep.exposure.captured import CapturedView
from privsweep.exposure.updates import UpdateView
from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.records import Knowledge, Recipe, Update
from privsweep.interface.roles import View


def captured_gradient(seen: Update, known: Knowledge) -> Tensors:
    """Gradients ``[V, ...]`` by parameter name. A difference is treated as equal steps of SGD: exact for one step.

    Needs the ``recipe`` for a difference. Raises UserError for that of clients that do not use SGD.
    """
    if seen.kind == "gradient":
        return seen.delta
    if known.recipe.optimizer != "sgd":
        raise UserError(_no_gradient(known.recipe.optimizer))
    scale = -1 / (known.recipe.lr * _gradients_moved(known.recipe))
    return {name: scale * d for name, d in seen.delta.items()}


def _gradients_moved(recipe: Recipe) -> float:
    """How many times the learning rate equal gradients move the weights in all steps.

    With momentum m the velocity of step i is ``1 + m + ... + m^(i-1)`` gradients.
    """
    return sum(recipe.momentum**power * (recipe.steps - power) for power in range(recipe.steps))


def refuses_difference(view: View) -> str | None:
    """Why no gradient follows from what that view exposes, or None."""
    if isinstance(view, UpdateView) and view.capture.what == "difference":
        optimizer = view.federation.local_schedule().optimizer.name
        return None if optimizer == "sgd" else _no_gradient(optimizer)
    if isinstance(view, CapturedView) and (sent := view.difference_under()) not in (None, "sgd"):
        return (
            f"{view.files.key}={view.files.path}: its difference under {sent} is not a multiple of a gradient; "
            "capture a gradient"
        )
    return None


def _no_gradient(optimizer: str) -> str:
    return (
        f"fl_setting.capture.what=difference: with fl_setting.optimizer={optimizer} a weight difference is "
        "not a multiple of a gradient; take fl_setting.capture.what=gradient or fl_setting.optimizer=sgd"
    )
