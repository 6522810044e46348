"""Whole networks trained together, as Ensembler's first stage does: stacked on a leading axis, or in turn.

ResNet18 on random images of CIFAR-10's size, ten networks on a GPU, four narrow ones on a CPU. Checked first: both
ways give the same losses.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn
from benchmarks.workplace import random_images
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, labelled
from privsweep.model.resnet import ResNet
from privsweep.training.augmentation import crop_flip
from privsweep.training.fit import fit
from privsweep.training.stacked import Parallel

DOMAIN = Domain((3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3)


def networks(batch: int, setup: Setup) -> Contest:
    count, width, batch = setup.sized(2, 4, 10), setup.sized(4, 16, 64), setup.sized(8, batch, batch)
    architecture = ResNet(blocks=(2, 2, 2, 2), width=width, stem="pooled", norm="batch", activation="relu", init="he")
    nets = [architecture.build(DOMAIN, Rng(k)).to(setup.device) for k in range(count)]
    start = {name: torch.stack([n.state_dict()[name] for n in nets]) for name in nets[0].state_dict()}
    examples = batch * setup.sized(1, 4, 10)
    pool = random_images(examples, DOMAIN.shape, 0, setup.device)
    data = labelled(pool, DOMAIN, [torch.arange(examples)] * count, crop_flip)
    schedule = LocalSchedule(Optimizer("sgd", 0.01, 0.9, 5e-4), 1, None, batch)
    training = Training(nets[0], start, None, cross_entropy, data, schedule, [Rng(0).child(k) for k in range(count)])
    losses = [fit(training, parallel=way).losses for way in ("sequential", "stacked")]
    if not torch.allclose(*losses, rtol=0.1 if torch.backends.cudnn.allow_tf32 else 1e-2):
        raise DisagreementError("stacked and in turn the losses differ")

    def turn(parallel: Parallel) -> Turn:
        return lambda: len(fit(training, parallel=parallel).losses) * examples

    return Contest(turn("sequential"), {f"batches of {batch}": turn("stacked")})


CASES = {
    f"networks_{batch}": Case("ResNet18s stacked, or in turn", "an image", partial(networks, batch))
    for batch in (128, 512)
}
