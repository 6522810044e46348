"""What a captured update is matched by: a gradient, the update itself or a weight difference rescaled, or the local
steps behind a difference."""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.exposure.about_updates import AboutUpdates
from privsweep.exposure.captured import CapturedView
from privsweep.exposure.updates import UpdateView
from privsweep.gradient_inversion.engine.local_steps import LocalSteps
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
    scale = gradient_scale(seen, known)
    return {name: scale * d for name, d in seen.delta.items()}


def gradient_scale(seen: Update, known: Knowledge) -> float:
    """What an update is multiplied by to make a gradient of it. Raises UserError as ``captured_gradient``."""
    if seen.kind == "gradient":
        return 1.0
    if known.recipe.optimizer != "sgd":
        raise UserError(_no_gradient(known.recipe.optimizer))
    return -1 / (known.recipe.lr * _gradients_moved(known.recipe))


def finite(gradient: Tensors) -> Tensor:
    """Of which victims all numbers of gradients ``[V, ...]`` are finite, bool ``[V]``."""
    return torch.stack([g.isfinite().view(len(g), -1).all(1) for g in gradient.values()]).all(0)


def local_steps(recipe: Recipe, clients: int) -> LocalSteps:
    """Those behind the mean of so many clients' weight differences, which are compared on the scale of a gradient."""
    adam = recipe.optimizer == "adam"
    moved = recipe.steps if adam else _gradients_moved(recipe)
    given = (recipe.momentum, recipe.lr, recipe.steps, recipe.batch_size, clients)
    return LocalSteps("adam" if adam else "sgd", *given, scale=-1 / (recipe.lr * moved))


def refuses_gradient(view: View) -> str | None:
    """Why no local steps are behind what that view exposes, or None."""
    difference = view.capture.what == "difference" if isinstance(view, UpdateView) else None
    if isinstance(view, CapturedView):
        difference = view.difference_under() is not None
    if difference is False:
        return "attack.unrolled=true: no local steps are behind a gradient; take false, or capture a difference"
    return None


def _gradients_moved(recipe: Recipe) -> float:
    """How many times the learning rate equal gradients move the weights in all steps.

    With momentum m the velocity of step i is ``1 + m + ... + m^(i-1)`` gradients.
    """
    return sum(recipe.momentum**power * (recipe.steps - power) for power in range(recipe.steps))


def refuses_difference(view: View) -> str | None:
    """Why no gradient follows from what that view exposes, or None."""
    if isinstance(view, AboutUpdates):
        view = view.captured
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
