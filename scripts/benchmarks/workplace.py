"""What the program itself is timed in: a run of its own, random images, and a workbench in a folder of the case's."""

from __future__ import annotations

import torch

from benchmarks.contest import Setup
from privsweep.interface.data import Data, Domain, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import train
from privsweep.run.run_spec import RunSpec
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store

CLASSES = 10


def random_images(count: int, shape: tuple[int, int, int], seed: int, device: torch.device) -> ImageSet:
    """None of whose pixels is black throughout."""
    generator = Rng(seed).generator()
    images = torch.randint(1, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.randint(0, CLASSES, (count,), generator=generator)).to(device)


def random_data(train_size: int, test_size: int, device: torch.device) -> Data:
    """Of CIFAR-10's shape."""
    domain = Domain((3, 32, 32), CLASSES, (0.5,) * 3, (0.25,) * 3)
    parts = (random_images(n, domain.shape, seed, device) for seed, n in enumerate((train_size, test_size)))
    return Data("random", *parts, domain)


def spec_of(*overrides: str) -> RunSpec:
    with searching(None):
        return build(compose(overrides))


def trained(spec: RunSpec, data: Data, setup: Setup) -> System:
    """As a run trains: with snapshots, its learning curve and its utility."""
    bench = Workbench(setup.device, Store(setup.folder), spec.signature)
    with bench.phase("training"):
        return train(spec, data, Rng(spec.session.seed), bench)
