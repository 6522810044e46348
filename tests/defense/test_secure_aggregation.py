from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import Tensor

from privsweep.defense.central_dp import CentralDp
from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.model.convnet import ConvNet
from privsweep.training.aggregation import server_mean

SHARES = [{"w": Rng(0).child(k).normal(300, 70), "b": Rng(1).child(k).normal(9)} for k in range(5)]


def masking(**changes: Any) -> SecureAggregation:
    return SecureAggregation(**{"fraction_bits": 24, "bits": 48, "dropout": 0.0, "threshold": 2, **changes})


def stack(**changes: Any) -> Stack:
    return Stack({"secure_aggregation": masking(**changes)})


def rounded(updates: Sequence[Tensors], name: str) -> Tensor:
    """The sum of the updates, each in whole steps of the fixed point."""
    return sum((s[name].double() * 2**24).round() for s in updates) / 2**24  # type: ignore[return-value]


def test_what_is_clipped_does_not_grow_by_rounding() -> None:
    """Every entry of half a step and a little would else become a whole one, and the update twice as long."""
    schedule = Schedule(examples=20, batch_size=8, steps=4, rounds=2, clients=2, participation=1.0)
    noisy = CentralDp(
        max_update_norm=1.0, epsilon=None, noise_multiplier=1.0, delta=1e-5, accountant="rdp", amplification=False
    )
    masked = masking(fraction_bits=6)
    for order in ({"a": noisy, "b": masked}, {"b": masked, "a": noisy}):
        defense = Stack(order).bind(schedule)
        updates = [defense.update({"w": torch.full((4000,), size)}, Rng(0)) for size in (1.0, -1e-9)]
        mean, _ = server_mean(updates, [8, 8], defense, Rng(0))
        assert mean["w"].norm() <= 0.5  # of two clients, each clipped to 1
    plain, _ = server_mean(updates, [8, 8], Stack({"b": masked}).bind(schedule), Rng(0))
    assert (plain["w"] - updates[0]["w"] / 2).abs().max() <= 2**-7 + 1e-6  # to the nearest step


def test_the_sum_is_exact_to_the_fixed_point() -> None:
    for bits in (32, 48, 53):
        defense = masking(bits=bits)
        total = defense.combine(defense.server_view(SHARES, Rng(0)))
        assert all(torch.equal(total[n], rounded(SHARES, n)) for n in total)


def test_a_single_message_is_uniform_and_says_nothing_of_the_share() -> None:
    [first, *_] = masking(bits=32).server_view(SHARES, Rng(0))
    words = first["w"].flatten()
    assert words.dtype == torch.int64
    assert words.min() >= 0
    assert words.max() < 2**32
    for shift in (0, 8, 16, 24):
        counts = torch.bincount((words >> shift) & 255, minlength=256).double()
        expected = len(words) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 340  # chi-squared, 255 degrees: 1 in 3,000 beyond
    correlation = torch.corrcoef(torch.stack([words.double(), SHARES[0]["w"].flatten().double()]))[0, 1]
    assert abs(correlation) < 4 / len(words) ** 0.5


def test_all_messages_but_one_still_say_nothing() -> None:
    messages = masking(bits=32).server_view(SHARES, Rng(0))
    four = sum(m["w"] for m in messages[:4]) % 2**32  # type: ignore[operator]
    counts = torch.bincount(four.flatten() >> 24, minlength=256).double()
    expected = four.numel() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 340


def test_masks_are_new_in_every_round() -> None:
    one, two = (masking().server_view(SHARES, Rng(0).child("round", n))[0]["w"] for n in (0, 1))
    assert (one == two).float().mean() < 0.01


def test_vanished_clients_leave_the_sum_of_the_others() -> None:
    defense, sizes = stack(dropout=0.4), [10, 20, 30, 40, 50]
    for seed in range(4):
        mean, surviving = server_mean(SHARES, sizes, defense, Rng(seed))
        assert len(surviving) == 3
        whole = sum(sizes[n] for n in surviving)
        expected = sum(SHARES[n]["w"] * (sizes[n] / whole) for n in surviving)
        assert torch.allclose(mean["w"], expected, atol=1e-6)  # type: ignore[arg-type]
    messages = defense.server_view(SHARES, Rng(0))
    counts = torch.bincount(messages[0]["w"].flatten() >> 40, minlength=256).double()
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 340


def test_a_listening_client_is_one_of_those_that_get_through() -> None:
    for seed in range(8):
        _, surviving = server_mean(SHARES, [1] * 5, stack(dropout=0.6), Rng(seed), present=4)
        assert 4 in surviving


@pytest.mark.parametrize(
    ("clients", "changes", "names"),
    [
        (1, {}, "of 1 clients in a round 1 get through"),
        (5, {"dropout": 0.8}, "of 5 clients in a round 1 get through"),
        (5, {"dropout": 0.4, "threshold": 4}, "secure_aggregation.threshold=4"),
    ],
)
def test_too_few_survivors_are_refused_before_and_in_a_round(clients: int, changes: dict, names: str) -> None:
    with pytest.raises(UserError, match=names):
        stack(**changes).bind(Schedule(20, 8, 12, 4, clients, 1.0))
    with pytest.raises(UserError, match=names):
        masking(**changes).server_view(SHARES[:clients], Rng(0))


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"secure_aggregation.bits=26: .* does not fit into the sum of 5 clients"):
        masking(bits=26).server_view(SHARES, Rng(0))
    with pytest.raises(UserError, match="does not fit"):
        masking().server_view([{"w": torch.tensor([float("nan")])}] * 2, Rng(0))
    with pytest.raises(UserError, match=r"secure_aggregation.bits=24: holds a sign"):
        masking(bits=24)


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_a_federation_trains_as_without_it(data: Data, lenet: ConvNet, partition: Any) -> None:
    setting = fedavg(partition=partition, optimizer="sgd", lr=0.1)
    plain, masked = (setting.train(data, lenet, d, Rng(0), Bench()) for d in (Stack({}), stack()))
    assert all(torch.allclose(w, masked.snapshots[2][n], atol=1e-6) for n, w in plain.snapshots[2].items())
    assert all(w.dtype == plain.snapshots[2][n].dtype for n, w in masked.snapshots[2].items())


def test_the_server_gets_the_mean_of_all_and_all_their_images_are_behind_it(data: Data, lenet: ConvNet) -> None:
    def exposed(defense: Stack, **changes: Any) -> Any:
        setting = fedavg(rounds=0, capture=capture(batch_size=2, client=1), **changes)
        system = setting.train(data, lenet, defense, Rng(0), Bench())
        return setting.views()[0].expose(system, data, lenet, defense, Rng(0))

    alone, out = exposed(Stack({})), exposed(stack())
    assert (out.seen.contributors, out.seen.examples) == (3, 6)
    assert out.truth.pixels.shape[:2] == (3, 6)
    assert torch.equal(out.truth.index[:, :2], alone.truth.index)
    net = lenet.build(data.domain, Rng(0))
    net.load_state_dict(dict(out.seen.weights))
    x, y = data.domain.inputs(out.truth.pixels[0]), out.truth.labels[0]
    grads = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), list(net.parameters()))
    for (name, _), g in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(out.seen.delta[name][0], g, atol=1e-6)
    fewer = exposed(stack(dropout=0.34))
    assert (fewer.seen.contributors, fewer.truth.index.shape) == (2, (3, 4))
    part = exposed(stack(), clients=6, participation=0.5, victims=2)
    assert part.seen.contributors == 3


def test_a_client_still_gets_the_others_out_of_the_aggregate(data: Data, lenet: ConvNet) -> None:
    outs = []
    for defense in (Stack({}), stack()):
        setting = fedavg(rounds=0, position="client")
        system = setting.train(data, lenet, defense, Rng(0), Bench())
        outs.append(setting.views()[0].expose(system, data, lenet, defense, Rng(0)))
    assert torch.equal(outs[0].truth.index, outs[1].truth.index)
    for name, d in outs[0].seen.delta.items():  # type: ignore[union-attr]
        assert torch.allclose(outs[1].seen.delta[name], d, atol=1e-6)  # type: ignore[union-attr]


def test_it_composes_with_noise_at_the_client_in_either_order(data: Data, lenet: ConvNet) -> None:
    local = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=1.0, delta=None, accountant="rdp", poisson=True)
    members = {"secure_aggregation": masking(), "dp_sgd": local}
    setting = fedavg(rounds=1)
    schedule = setting.schedule(data, Rng(0))
    ends = []
    for names in (list(members), list(reversed(members))):
        defense = Stack({n: members[n] for n in names}).bind(schedule)
        ends.append(setting.train(data, lenet, defense, Rng(0), Bench()).snapshots[1])
        assert defense.budgets(schedule)["dp_sgd"]["epsilon"] > 0
    assert all(torch.equal(w, ends[1][n]) for n, w in ends[0].items())
