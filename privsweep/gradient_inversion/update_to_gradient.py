"""The gradient behind a captured update: the update itself, or a weight difference rescaled."""

from __future__ import annotations

from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.records import Knowledge, Update
from privsweep.interface.roles import Setting


def captured_gradient(seen: Update, known: Knowledge) -> Tensors:
    """Gradients ``[V, ...]`` by parameter name. A difference is treated as equal steps of SGD: exact for one step.

    Raises UserError for the weight difference of clients that do not use plain SGD.
    """
    if seen.kind == "gradient":
        return seen.delta
    recipe = known.recipe
    if recipe is None:
        raise UserError(
            "attack: a gradient follows from a weight difference only with the clients' learning rate, which this "
            "setting does not grant; take fl_setting.capture.what=gradient"
        )
    if recipe.optimizer != "sgd":
        raise UserError(_no_gradient(recipe.optimizer))
    scale = -1 / (recipe.lr * recipe.steps)
    return {name: scale * d for name, d in seen.delta.items()}


def refuses_difference(setting: Setting) -> str | None:
    """Why no gradient follows from what that setting exposes, or None."""
    capture, optimizer = getattr(setting, "capture", None), getattr(setting, "optimizer", "sgd")
    if getattr(capture, "what", "gradient") == "difference" and optimizer != "sgd":
        return _no_gradient(optimizer)
    return None


def _no_gradient(optimizer: str) -> str:
    return (
        f"fl_setting.capture.what=difference: with fl_setting.optimizer={optimizer} a weight difference is "
        "not a multiple of a gradient; take fl_setting.capture.what=gradient or fl_setting.optimizer=sgd"
    )
