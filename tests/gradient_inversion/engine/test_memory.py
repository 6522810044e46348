"""What gradient matching is estimated to hold, counted by hand and against measured memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from privsweep.compiled.convolution import compiled_for
from privsweep.compiled.library import compiled
from privsweep.gradient_inversion.engine.memory import MemoryEstimate, batch_activations, estimate_memory
from privsweep.model.residual import Residual

GIB = 2**30
CPU = torch.device("cpu")


def test_positions_and_elements_are_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 5, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)).double()
    found = batch_activations(model, (2, 2, 8, 8))
    assert found.examples == 2
    assert found.positions == {"0": 2 * 4 * 4}
    outputs = 2 * (5 * 16 + 5 * 16 + 80 + 3)
    assert found.elements == 6 * outputs
    assert found.convolutions["0"].weight.shape == (5, 2, 3, 3)
    assert found.convolutions["0"].weight.is_meta
    assert next(model.parameters()).device.type == "cpu"


def test_layers_within_blocks_are_found_by_their_path():
    conv = nn.Conv2d(2, 2, 3, padding=1)
    model = nn.Sequential(Residual(nn.Sequential(conv), nn.Sequential()))
    assert batch_activations(model, (1, 2, 4, 4)).positions == {"0.branch.0": 16}
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(model(x), conv(x) + x)


def test_a_layer_that_puts_out_more_than_a_tensor_is_counted_with_all_of_it():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.output = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x):
            return self.output(self.rows(x.flatten(1, 2))[0][:, -1])

    outputs = 2 * (8 * 5 + 5 + 5 + 3)  # of every row, of the state, of the cell, and the logits
    assert batch_activations(Last(), (2, 1, 8, 8)).elements == 6 * outputs


class TestEstimate:
    """Of a wide linear layer, whose residual is never formed, and a bias."""

    def estimate(self, **changes) -> MemoryEstimate:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100))
        target = {"1.weight": torch.zeros(3, 100, 64), "1.bias": torch.zeros(3, 100)}
        values = {"unknowns": 64, "history": 0, "restarts": 1, "only_nonzero": False, "device": CPU}
        return estimate_memory(target, batch_activations(model, (1, 1, 8, 8)), **{**values, **changes})

    def test_what_takes_more_is_estimated_at_more(self):
        least = self.estimate().per_victim
        pairs = self.estimate(history=20).per_victim - self.estimate(history=10).per_victim
        assert pairs == 4 * (2 * 10 * 64 + 2 * (20**2 - 10**2))
        assert self.estimate(history=10).per_victim > least
        assert self.estimate(device=torch.device("cuda")).per_victim == least + 4 * 6500
        whole = self.estimate(only_nonzero=True).per_victim  # its sweeps hold a residual: more than a step does
        assert whole == 4 * (6 * 64 + 3 * 6500 + 6 * (64 + 100))
        assert self.estimate(restarts=3).per_victim > 3 * least

    def test_a_convolution_of_few_positions_forms_no_residual(self):
        model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(), nn.Linear(256, 3))
        target = {name: torch.zeros(3, *p.shape) for name, p in model.named_parameters()}
        few, many = (
            estimate_memory(target, batch_activations(model, (n, 64, 2, 2)), 256 * n, 0, 1, False, CPU) for n in (1, 9)
        )
        weight = model[0].weight.numel()
        assert few.per_victim < 4 * 3 * weight < many.per_victim
        assert few.factorised == 3 * 8 * weight
        assert many.factorised == 0

    def test_patches_count_where_no_compiled_code_does_without_them(self):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
        target = {name: torch.zeros(3, *p.shape) for name, p in model.named_parameters()}
        activations = batch_activations(model, (1, 1, 8, 8))
        with compiled(False):
            without = estimate_memory(target, activations, 16, 0, 1, False, CPU).per_victim
        spared = 4 * 2 * 36 * 9 if compiled_for(CPU, torch.float32) else 0
        assert estimate_memory(target, activations, 16, 0, 1, False, CPU).per_victim == without - spared

    def test_victims_fit_the_budget_and_there_is_always_one(self):
        estimate = MemoryEstimate(per_victim=2**20, factorised=0)
        assert estimate.victims_within(1.0) == 1024
        assert estimate.of(1024) == GIB
        assert estimate.victims_within(1e-6) == 1

    def test_factorising_takes_float64_copies_up_to_a_limit(self):
        estimate = self.estimate()
        assert estimate.of(1) == 3 * 8 * 6400
        assert MemoryEstimate(1, 24 * 2**20).of(10**6) == 24 * 2**24


MEASURE = """
import sys
from pathlib import Path

import torch
from attack.test_gradient_matching import dlg
from privsweep.compiled.convolution import compiled_for
from privsweep.compiled.library import compiled
from privsweep.gradient_inversion.engine.memory import MemoryEstimate
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Update
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.resnet import ResNet
from tiny import Bench

torch.set_num_threads(1)
network, search, victims = sys.argv[1], sys.argv[2], int(sys.argv[3])
domain = Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)
networks = {
    "lenet": ConvNet(
        width=12, layers=(1, 1, 1), depth=3, kernel=5, pool_after=(1, 2), pooling="stride", norm="none", fc=(),
        padding="same", fc_width=None, activation="sigmoid", init="default", init_bound=0.5,
    ),
    "resnet": ResNet(
        blocks=[2, 2, 2, 2], width=16, stem="small", norm="batch", activation="relu", init="he",
    ),
    "mlp": MLP(width=128, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5),
}
searches = {
    "adam": {"optimizer": "adam", "iterations": 5, "tv_weight": 1e-6, "clamp_pixels": True},
    "lbfgs": {"optimizer": "lbfgs", "iterations": 6},
}
attack = dlg(**searches[search])
model = networks[network].build(domain, Rng(0)).eval()
estimates = []
within = MemoryEstimate.victims_within
MemoryEstimate.victims_within = lambda self, budget: estimates.append(self) or 10**9


def resident(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def attacked(victims):
    target = {n: torch.empty(victims, *p.shape) for n, p in model.named_parameters()}
    for v in range(victims):
        x, y = torch.rand(1, *domain.shape), torch.randint(10, (1,))
        loss = torch.nn.functional.cross_entropy(model(x), y)
        for goal, g in zip(target.values(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            goal[v] = g
    seen = Update({n: w.detach() for n, w in model.state_dict().items()}, target, "gradient", 1, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far counts no more
    before = resident("VmRSS")
    known = Knowledge(model=model, domain=domain)
    attack.victims_at_once(seen, known, torch.device("cpu"))
    attack(seen, known, {}, Bench(), Rng(0))
    return resident("VmHWM") - before


attacked(1)  # code and libraries come into memory
growth = attacked(victims)
print(growth, estimates[-1].of(victims))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("network", "search", "victims"),
    [
        ("lenet", "adam", 100),
        ("lenet", "lbfgs", 20),
        ("mlp", "adam", 50),
        ("mlp", "lbfgs", 40),
        ("resnet", "adam", 16),
    ],
)
def test_the_estimate_is_near_measured_memory(network, search, victims):
    arguments = [sys.executable, "-c", MEASURE, network, search, str(victims)]
    paths = [path for path in sys.path if path]
    tests = Path(__file__).parents[2]
    environment = {"PYTHONPATH": ":".join([str(tests), *paths]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=tests, check=False)
    assert done.returncode == 0, done.stderr
    measured, estimated = map(int, done.stdout.split())
    assert 0.7 <= measured / estimated <= 1.4, f"measured {measured / GIB:.3f} GiB, estimated {estimated / GIB:.3f} GiB"
