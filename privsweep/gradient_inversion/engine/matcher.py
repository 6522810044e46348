"""The batched engine of gradient matching: dummy images against captured gradients, many victims at once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.distance import Distance
from privsweep.gradient_inversion.engine.local_steps import LocalSteps
from privsweep.gradient_inversion.engine.match import Matcher
from privsweep.gradient_inversion.engine.memory import BatchActivations
from privsweep.gradient_inversion.engine.statistics import Wanted
from privsweep.gradient_inversion.engine.tangent import tangent_matcher
from privsweep.gradient_inversion.engine.together import TogetherMatcher, batches
from privsweep.interface.data import Loss, Tensors
from privsweep.model.loss_term import PlusLastOutput


def matcher(
    model: nn.Module,
    weights: Tensors,
    target: Tensors,
    distance: Distance,
    activations: BatchActivations,
    loss: Loss = cross_entropy,
    label_weight: float = 0.0,
    only_nonzero: bool = False,
    wanted: Mapping[str, Wanted] | None = None,
    local: LocalSteps | None = None,
    clients: int = 1,
) -> Matcher:
    """The fastest exact matcher for a network in its present mode (train or eval).

    ``weights``: parameters and buffers by name. ``target``: the captured gradients ``[V, ...]`` by parameter name,
    each of one batch; a parameter that is missing there is not matched, and with ``only_nonzero`` neither is an entry
    that is zero. All must be of one dtype, which the images follow. ``activations``: of ``model`` for such a batch.
    ``label_weight`` times the squared distance between prediction and label is added, as a penalty. Cross-entropy
    reads as many outputs as there are classes, any other ``loss`` reads them all: one that adds the term of a layer
    before the last to cross-entropy is as fast. ``wanted``: by layer, the moments
    that what reaches it is pulled towards, as a penalty; of batch normalisation. ``local``: what is compared are weight
    differences, times its scale, after a local training from the images. ``clients``: among whom a victim's images are
    shared out, in their order; each normalises by its own batch. A network with a layer that has no rule or that is not
    a sequence of layers, or any other loss, is differentiated twice.
    """
    target = {name: target[name] for name, _ in model.named_parameters() if name in target}
    with_term = isinstance(loss, PlusLastOutput) and loss.loss is cross_entropy
    if (loss is cross_entropy or with_term) and local is None:
        term = loss.weight if isinstance(loss, PlusLastOutput) else None
        fast = tangent_matcher(
            model, weights, target, distance, activations, label_weight, only_nonzero, wanted, clients, term
        )
        if fast is not None:
            return fast
    alone = AutogradMatcher(model, weights, target, distance, loss, label_weight, only_nonzero, wanted, local, clients)
    return TogetherMatcher(alone) if batches(alone, activations.shape) else alone
