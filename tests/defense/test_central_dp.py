import math
from typing import Any

import pytest
import torch
from opacus.accountants import RDPAccountant
from tiny import Bench, capture, fedavg
from torch import Tensor, nn

from privsweep.defense.central_dp import CentralDp
from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule, System
from privsweep.model.convnet import ConvNet
from privsweep.training.aggregation import server_mean

SCHEDULE = Schedule(examples=20, batch_size=8, steps=12, rounds=4, clients=10, participation=0.3)


def central(**changes: Any) -> CentralDp:
    values = {
        "max_update_norm": 1.0, "epsilon": None, "noise_multiplier": 1.0, "delta": 1e-5, "accountant": "rdp",
        "amplification": True,
    }  # fmt: skip
    return CentralDp(**{**values, **changes})


def stack(**changes: Any) -> Stack:
    return Stack({"central_dp": central(**changes)}).bind(SCHEDULE)


def trained(data: Data, lenet: ConvNet, defense: Stack, **changes: Any) -> System:
    return fedavg(**changes).train(data, lenet, defense, Rng(0), Bench())


@pytest.mark.parametrize(("amplification", "rate"), [(True, 0.3), (False, 1.0)])
def test_rounds_are_accounted_with_participation_as_the_rate(amplification: bool, rate: float) -> None:
    spent = central(amplification=amplification).bind(SCHEDULE).spent(SCHEDULE)
    direct = RDPAccountant()
    direct.history = [(1.0, rate, 4)]
    assert (spent["epsilon"], spent["renyi_order"]) == direct.get_privacy_spent(delta=1e-5)
    assert (spent["sample_rate"], spent["steps"]) == (rate, 4)


def test_an_epsilon_without_amplification_bounds_what_rounds_of_a_fixed_number_give_away() -> None:
    """One of ten clients is drawn: the one asked about, who sends 1 or nothing, or another, who sends -1."""
    schedule, delta = Schedule(20, 8, 3, 1, 10, 0.1), 1e-5
    x = torch.linspace(-15, 15, 300_001, dtype=torch.float64)
    at = {mean: (-((x - mean) ** 2) / 2).exp() / math.sqrt(2 * math.pi) for mean in (-1, 0, 1)}
    there, blanked = 0.9 * at[-1] + 0.1 * at[1], 0.9 * at[-1] + 0.1 * at[0]

    def broken(epsilon: float) -> bool:
        return (there - math.exp(epsilon) * blanked).clamp(min=0).sum().item() * 1e-4 > delta

    spent = {a: central(amplification=a).bind(schedule).spent(schedule)["epsilon"] for a in (False, True)}
    assert not broken(spent[False])
    assert broken(spent[True])
    assert any("amplification=true" in line for line in central().warnings(schedule))
    assert not central(amplification=False).warnings(schedule)
    assert not central(delta=0.01).warnings(Schedule(20, 8, 3, 1, 10, 1.0))


def test_a_target_is_met() -> None:
    spent = central(epsilon=3.0, noise_multiplier=None, amplification=False).bind(SCHEDULE).spent(SCHEDULE)
    assert 2.99 < spent["epsilon"] <= 3.0


def test_local_and_central_budgets_stand_side_by_side() -> None:
    local = DpSgd(max_grad_norm=1.0, epsilon=6.0, noise_multiplier=None, delta=None, accountant="rdp", poisson=False)
    spent = Stack({"dp_sgd": local, "central_dp": central()}).bind(SCHEDULE).budgets(SCHEDULE)
    assert spent["dp_sgd"]["epsilon"] == pytest.approx(6, abs=2e-3)
    assert spent["central_dp"]["epsilon"] > 0


def test_updates_are_clipped_as_a_whole() -> None:
    delta = {"a": torch.full((3,), 3.0), "b": torch.full((4,), -3.0)}
    got = central(max_update_norm=0.5).update(delta, Rng(0))
    assert torch.cat(list(got.values())).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert got["a"][0] == -got["b"][0]
    small = central(max_update_norm=100.0).update(delta, Rng(0))
    assert all(torch.equal(small[n], t) for n, t in delta.items())


def test_noise_on_the_mean_has_the_deviation_that_is_accounted() -> None:
    mean = {"w": torch.zeros(100, 300)}
    got = stack(noise_multiplier=2.0, max_update_norm=3.0).aggregate(mean, 4, Rng(0))
    assert got["w"].std().item() == pytest.approx(2 * 3 / 4, rel=0.02)


def test_clients_weigh_alike_so_that_none_moves_the_mean_by_more_than_its_part() -> None:
    updates = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([0.0])}]
    mean, surviving = server_mean(updates, [90, 10], stack(), Rng(0))
    assert (mean["w"].item(), surviving) == (0.5, [0, 1])
    plain, _ = server_mean(updates, [90, 10], Stack({}), Rng(0))
    assert plain["w"].item() == pytest.approx(0.9)


def test_without_clip_and_noise_it_is_no_defence(data: Data, lenet: ConvNet) -> None:
    plain = trained(data, lenet, Stack({}))
    off = trained(data, lenet, stack(max_update_norm=None, noise_multiplier=0.0))
    assert all(torch.allclose(w, off.snapshots[2][n], atol=1e-7) for n, w in plain.snapshots[2].items())
    assert stack(max_update_norm=None, noise_multiplier=0.0).spent(SCHEDULE) == {}


def test_the_server_sees_updates_without_noise_and_a_client_an_aggregate_with_it(data: Data, lenet: ConvNet) -> None:
    def seen(defense: Stack, position: Any) -> Tensor:
        setting = fedavg(rounds=0, position=position, capture=capture(batch_size=2))
        system = setting.train(data, lenet, defense, Rng(0), Bench())
        out = setting.views()[0].expose(system, data, lenet, defense, Rng(0))
        return torch.cat([d.flatten(1) for d in out.seen.delta.values()], 1)  # type: ignore[union-attr]

    noisy, clipped = stack(max_update_norm=1e3), stack(max_update_norm=1e3, noise_multiplier=0.0)
    assert torch.equal(seen(noisy, "server"), seen(Stack({}), "server"))
    noise = seen(noisy, "client") - seen(clipped, "client")
    assert noise.std().item() == pytest.approx(1e3 / 3 * 3 / 2, rel=0.1)  # on the mean of three, less its own of two


def test_what_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match=r"fl_setting\.clients=2"):
        central().bind(Schedule(20, 8, 12, 4, 1, 1.0))
    with pytest.raises(UserError, match=r"model\.norm=group"):
        central().model(nn.Sequential(nn.BatchNorm1d(3)), Rng(0))
    with pytest.raises(UserError, match=r"layer 0 keeps running statistics.* track_running_stats=False"):
        central().model(nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), Rng(0))
    for harmless in (nn.InstanceNorm2d(3), nn.GroupNorm(1, 3)):
        central().model(nn.Sequential(harmless), Rng(0))
    with pytest.raises(UserError, match=r"defense\.central_dp\.max_update_norm=null"):
        central(max_update_norm=None)
