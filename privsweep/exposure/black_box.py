"""The black box and the question: was this record in the training data?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softmax

from privsweep.interface.data import Architecture, Data, ImageSet
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Membership, Predictions, System
from privsweep.interface.roles import Setting
from privsweep.model.stochastic import draw, forward

KNOWS = frozenset({"domain", "candidates", "architecture", "recipe"})
_BATCH = 1000  # records answered at once


def expose(setting: Setting, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
    """Answers of the released model on the candidates: as many members as others, in a random order.

    Members are drawn from all clients' training examples, the others from the test split; nothing in what
    the adversary gets tells them apart. Zen, section 4.1: test time, off-path, black box.
    """
    done = released_round(setting)
    candidates, member, index = draw_candidates(setting, data, rng.child("candidates"))
    net = setting.network(data, model, defense, rng)
    net.load_state_dict(dict(system.snapshots[done]))
    net.eval()
    box = rng.child("black box")
    asked = 0

    def ask(x: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        own = box.child("query", asked)
        with torch.no_grad():
            parts = [_answer(part, own.child(n)) for n, part in enumerate(x.split(_BATCH))]
        return torch.cat(parts)

    def _answer(x: Tensor, own: Rng) -> Tensor:
        logits = forward(net, draw(net, len(x), own.child("noise"), x.device), x)[:, : data.domain.classes]
        return defense.predictions(softmax(logits, 1), own)

    known = Knowledge(domain=data.domain, candidates=candidates, architecture=model, recipe=setting.recipe(data, rng))
    return Exposure(
        seen=Predictions(probabilities=ask(data.domain.inputs(candidates.pixels())), ask=ask),
        known=known,
        truth=Membership(member=member, index=index),
    )


def draw_candidates(setting: Setting, data: Data, rng: Rng) -> tuple[ImageSet, Tensor, Tensor]:
    """The candidates, which of them are members (bool ``[M]``) and where they stand in their split (``[M]``)."""
    half = half_of(setting, data)
    device = data.train.images.device
    inside = rng.child("members").permutation(len(data.train))[:half]
    outside = rng.child("others").permutation(len(data.test))[:half]
    order = rng.child("order").permutation(2 * half)
    member = (torch.arange(2 * half) < half)[order]
    index = torch.cat([inside, outside])[order]
    parts = [data.train.take(inside.to(device)), data.test.take(outside.to(device))]
    images, labels = (torch.cat([getattr(p, n) for p in parts])[order.to(device)] for n in ("images", "labels"))
    return ImageSet(images, labels), member, index


def half_of(setting: Setting, data: Data) -> int:
    """Members among the candidates. Raises UserError where there are too few records."""
    most = min(len(data.train), len(data.test))
    half = most if setting.candidates is None else setting.candidates // 2
    if half > most:
        raise UserError(
            f"fl_setting.candidates={setting.candidates}: half of them are training and half test images, of which "
            f"there are {len(data.train)} and {len(data.test)}; take {2 * most} or fewer, or null for all"
        )
    return half


def released_round(setting: Setting) -> int:
    return setting.length() if setting.released == "last" else setting.released
