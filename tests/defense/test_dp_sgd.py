import math
from typing import Any

import pytest
import torch
from opacus.accountants import RDPAccountant, create_accountant
from opacus.accountants.utils import get_noise_multiplier
from tiny import Bench, capture, central, fedavg
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from privsweep.compiled.library import compiled
from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.soteria import Soteria
from privsweep.defense.stack import Stack
from privsweep.differential_privacy.accounting import undominated
from privsweep.fl_setting.fedsgd import FedSGD
from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule, System
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled, replica
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.stochastic import Stochastic, draw
from privsweep.training import per_example
from privsweep.training.clipped_sum import layers_with_parameters
from privsweep.training.fit import fit
from privsweep.training.local import gradient, weights_of
from privsweep.training.per_example import defended_sum, example_gradients

SCHEDULE = Schedule(examples=20000, batch_size=64, steps=15650, rounds=5, clients=3, participation=1.0)


def dp(**changes: Any) -> DpSgd:
    values = {
        "max_grad_norm": 1.0, "epsilon": None, "noise_multiplier": 1.0, "delta": None, "accountant": "rdp",
        "poisson": True,
    }  # fmt: skip
    return DpSgd(**{**values, **changes})


def stack(**changes: Any) -> Stack:
    return Stack({"dp_sgd": dp(**changes)}).bind(SCHEDULE)


NONE = {"max_grad_norm": None, "noise_multiplier": 0.0}


# --- the budget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_that_of_opacus(accountant: Any) -> None:
    schedule = Schedule(600, 60, 100, 5, 3, 1.0)
    spent = dp(accountant=accountant, delta=1e-3).bind(schedule).spent(schedule)
    direct = create_accountant(accountant)
    for _ in range(100):
        direct.step(noise_multiplier=1.0, sample_rate=0.1)
    assert spent["epsilon"] == pytest.approx(direct.get_epsilon(1e-3), rel=1e-9)
    assert {spent[k] for k in ("sample_rate", "steps", "noise_multiplier", "delta")} == {0.1, 100, 1.0, 1e-3}


@pytest.mark.filterwarnings("ignore:Optimal order")  # of Opacus's search, on its way
def test_zens_budget_takes_the_noise_that_opacus_finds() -> None:
    """Table 9: epsilon 1.751 over 50 epochs of 20,000 examples a client, delta one over all 60,000."""
    bound = dp(epsilon=1.751, noise_multiplier=None, delta=1 / 60000).bind(SCHEDULE)
    spent = bound.spent(SCHEDULE)
    theirs = get_noise_multiplier(
        target_epsilon=1.751, target_delta=1 / 60000, sample_rate=64 / 20000, steps=15650, epsilon_tolerance=1e-3
    )
    assert spent["noise_multiplier"] == pytest.approx(theirs, rel=2e-3)
    assert 1.75 <= spent["epsilon"] <= 1.751
    assert spent["renyi_order"] == pytest.approx(10.6)
    direct = RDPAccountant()
    direct.history = [(spent["noise_multiplier"], 64 / 20000, 15650)]
    assert (spent["epsilon"], spent["renyi_order"]) == direct.get_privacy_spent(delta=1 / 60000)


def cost(noise: float, examples: int, batch: int, epochs: int, delta: float) -> float:
    direct = RDPAccountant()
    direct.history = [(noise, min(1.0, batch / examples), epochs * -(-examples // batch))]
    return direct.get_epsilon(delta)


def unequal(sizes: list[int], batch: int, epochs: int) -> Schedule:
    (fewest, steps), *larger = [(n, epochs * -(-n // batch)) for n in sizes]
    return Schedule(fewest, batch, steps, epochs, len(sizes), 1.0, tuple(larger))


@pytest.mark.filterwarnings("ignore:Optimal order")
@pytest.mark.parametrize("sizes", [[64, 65], [40, 100], [60, 120], [128, 130, 700], list(range(30, 500, 60))])
def test_the_budget_holds_for_every_client_and_is_exact_for_one(sizes: list[int]) -> None:
    """Of 64 examples each is in all of 30 batches of 64; of 65 each is in 60 batches with probability 64/65."""
    schedule, delta = unequal(sizes, 64, 30), 1 / sizes[-1]
    spent = dp().bind(schedule).spent(schedule)
    assert spent["delta"] == delta
    assert spent["epsilon"] == pytest.approx(max(cost(1.0, n, 64, 30, delta) for n in sizes), rel=1e-9)
    planned = dp(epsilon=6.0, noise_multiplier=None).bind(schedule)
    assert planned.noise_multiplier is not None
    each = [cost(planned.noise_multiplier, n, 64, 30, delta) for n in sizes]
    assert 5.99 < max(each) <= 6.0
    assert planned.spent(schedule)["epsilon"] == max(each)


def test_delta_is_no_more_than_one_over_the_examples_of_any_client() -> None:
    """One over those of the smallest is kept to by publishing each of the largest's with that probability."""
    schedule = unequal([5, 286], 32, 15)
    bound = dp(epsilon=8.0, noise_multiplier=None).bind(schedule)
    assert bound.delta == 1 / 286
    [line] = dp(delta=1 / 5).warnings(schedule)
    assert "publishing one of 286 examples of the largest client; take 0.0035 or less" in line
    assert not dp(delta=1 / 286).warnings(schedule)


def test_clients_of_many_sizes_are_planned_without_asking_for_each() -> None:
    """What is sampled less often, and not for longer, costs less."""
    schedule = unequal(list(range(50, 2000)), 64, 3)
    left = undominated(dp().releases(schedule))
    assert len(left) == 2000 // 64 + 1
    assert undominated(reversed(left)) == left


def test_a_setting_tells_the_sizes_of_all_clients(data: Data) -> None:
    setting = fedavg(clients=3, batch_size=7, local_epochs=2, rounds=2)
    schedule = setting.schedule(data, Rng(0))
    sizes = sorted({len(shard) for shard in setting.shards(data, Rng(0))})
    assert schedule.uses == tuple((n, 2 * 2 * -(-n // 7)) for n in sizes)


def test_an_asymptotic_accountant_is_a_choice() -> None:
    spent = dp(accountant="gdp", epsilon=2.0, noise_multiplier=None).bind(SCHEDULE).spent(SCHEDULE)
    assert 1.99 < spent["epsilon"] <= 2.0
    assert spent["delta"] == 1 / 20000
    assert "renyi_order" not in spent


@pytest.mark.parametrize(("noise", "delta", "epsilon"), [(1.0, 1e-5, 4.377), (0.5, 1e-5, 9.997), (100.0, 0.1, 0.0)])
def test_of_noise_without_sampling_the_gaussian_accountant_is_exact(noise: float, delta: float, epsilon: float) -> None:
    """The limit for sampled steps made 57 of 10, and of so much noise that nothing is lost an error."""
    once = Schedule(64, 64, 1, 1, 1, 1.0)
    private = dp(accountant="gdp", noise_multiplier=noise, delta=delta)
    assert private.bind(once).spent(once)["epsilon"] == pytest.approx(epsilon, abs=1e-3)
    assert private.warnings(once)[1:] == [] == dp(accountant="gdp", delta=1e-5).warnings(once)
    assert "take rdp or prv" in dp(accountant="gdp").warnings(SCHEDULE)[0]


def test_without_poisson_sampling_every_pass_counts_in_full() -> None:
    """Fixed batches use every example once an epoch: fifty Gaussian releases, not 15,650 amplified ones."""
    spent = dp(poisson=False).bind(SCHEDULE).spent(SCHEDULE)
    assert (spent["sample_rate"], spent["steps"]) == (1.0, 50)
    assert spent["epsilon"] > 5 * dp().bind(SCHEDULE).spent(SCHEDULE)["epsilon"]
    one_batch = Schedule(20000, 64, 5, 5, 3, 1.0)
    assert dp(poisson=False).bind(one_batch).spent(one_batch)["steps"] == 5


def test_where_nothing_is_promised_or_spent() -> None:
    assert dp(**NONE).bind(SCHEDULE).spent(SCHEDULE) == {}
    idle = Schedule(20, 8, 0, 0, 3, 1.0)
    for poisson in (True, False):
        assert dp(poisson=poisson).bind(idle).spent(idle) == {}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"epsilon": 6.0}, "defense.dp_sgd.epsilon=6.0 defense.dp_sgd.noise_multiplier=1.0"),
        ({"noise_multiplier": None}, "neither is given"),
        ({"max_grad_norm": None}, "defense.dp_sgd.max_grad_norm=null"),
    ],
)
def test_noise_is_given_in_one_way(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(UserError, match=names):
        dp(**changes)


@pytest.mark.parametrize(
    ("epsilon", "batch", "steps"), [(0.1, 600, 300), (0.01, 600, 300), (0.1, 30, 300)], ids=["whole", "tiny", "sampled"]
)
def test_a_small_budget_is_met_and_not_far_from_what_is_needed(epsilon: float, batch: int, steps: int) -> None:
    """Opacus' own orders end at 63, whose epsilon is 0.103 at least for this delta, whatever the noise."""
    schedule = Schedule(600, batch, steps, steps, 1, 1.0)
    spent = dp(epsilon=epsilon, noise_multiplier=None, delta=1e-5).bind(schedule).spent(schedule)
    assert 0.998 * epsilon < spent["epsilon"] <= epsilon
    assert spent["renyi_order"] > 63
    if batch == 600:  # of Gaussian noise alone, the bound at every order (Mironov, 2017; Balle et al., 2020)
        orders = torch.logspace(1, 5, 100_000, dtype=torch.float64)
        divergence = steps * orders / (2 * spent["noise_multiplier"] ** 2)
        bound = divergence - (orders.log() + math.log(1e-5)) / (orders - 1) + ((orders - 1) / orders).log()
        assert spent["epsilon"] == pytest.approx(bound.min().item(), rel=1e-3)
        assert spent["epsilon"] >= bound.min().item() - 1e-9


def test_a_budget_that_no_noise_meets_is_refused() -> None:
    with pytest.raises(UserError, match=r"epsilon=0.001: no noise is enough"):
        dp(epsilon=0.001, noise_multiplier=None).bind(SCHEDULE)
    with pytest.raises(UserError, match="where nothing is trained"):
        dp(epsilon=1.0, noise_multiplier=None).bind(Schedule(20, 8, 0, 0, 3, 1.0))


@pytest.mark.parametrize(("accountant", "noise"), [("prv", 0.01), ("gdp", 0.05)])
def test_noise_whose_epsilon_is_not_found_is_refused_before_any_work(accountant: Any, noise: float) -> None:
    schedule = Schedule(600, 60, 100, 5, 3, 1.0)
    with pytest.raises(UserError, match=f"noise_multiplier={noise}: accountant={accountant} finds no epsilon"):
        dp(accountant=accountant, noise_multiplier=noise).bind(schedule)
    assert dp(noise_multiplier=noise).bind(schedule).spent(schedule)["epsilon"] < math.inf


def test_what_would_break_the_guarantee_is_refused(data: Data) -> None:
    pruning = GradientPruning(fraction=0.5, keep="rest", scope="global")
    with pytest.raises(UserError, match=r"pruning changes what dp_sgd clips .* change the order, or leave pruning out"):
        Stack({"pruning": pruning, "dp_sgd": dp()}).bind(SCHEDULE)
    Stack({"dp_sgd": dp(), "pruning": pruning}).bind(SCHEDULE)
    soteria = Soteria(fraction=0.5, layer=None)
    for both in ({"soteria": soteria, "dp_sgd": dp()}, {"dp_sgd": dp(), "soteria": soteria}):
        with pytest.raises(UserError, match=r"soteria changes what dp_sgd clips .* would not hold; leave soteria out"):
            Stack(both).bind(SCHEDULE)

    class First(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
            return torch.arange(batch_size)

    for poisson in (True, False):
        with pytest.raises(UserError, match="first draws batches that dp_sgd does not account for"):
            Stack({"first": First(), "dp_sgd": dp(poisson=poisson)}).bind(SCHEDULE)
        Stack({"first": First(), "dp_sgd": dp(poisson=poisson, **NONE)}).bind(SCHEDULE)
    Stack({"dp_sgd": dp(), "first": First()}).bind(SCHEDULE)
    with pytest.raises(UserError, match="first draws batches"):
        Stack({"dp_sgd": dp(poisson=False), "first": First()}).bind(SCHEDULE)
    with pytest.raises(UserError, match=r"model\.norm=group"):
        dp().model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), Rng(0))
    with pytest.raises(UserError, match=r"layer 0 keeps running statistics.* track_running_stats=False"):
        dp().model(nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True)), Rng(0))


# --- the gradient --------------------------------------------------------------------------------------


def one_by_one(net: nn.Module, x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
    names = [n for n, _ in net.named_parameters()]
    grads = [
        torch.autograd.grad(cross_entropy(net(x[i : i + 1]), y[i : i + 1]), list(net.parameters()))
        for i in range(len(x))
    ]
    return [dict(zip(names, g, strict=True)) for g in grads]


def test_gradients_of_examples_are_those_of_a_loop(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    x, y = data.domain.inputs(data.train.pixels(slice(0, 9))).double(), data.train.labels[:9]
    together, losses = example_gradients(net, cross_entropy, x, y, {})
    for i, alone in enumerate(one_by_one(net, x, y)):
        assert all(torch.allclose(together[n][i], g, atol=1e-12) for n, g in alone.items())
    assert torch.allclose(losses, cross_entropy(net(x), y, reduction="none"))


def test_every_example_has_its_own_noise() -> None:
    class Jitter(Stochastic):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.noise

    net = nn.Sequential(Jitter(5), nn.Linear(5, 3))
    x, y = torch.zeros(4, 5), torch.tensor([0, 1, 2, 0])
    noise = draw(net, 4, Rng(0), torch.device("cpu"))
    grads, _ = example_gradients(net, cross_entropy, x, y, noise)
    for i in range(4):
        value = cross_entropy(net[1](noise["0.noise"][i : i + 1]), y[i : i + 1])
        assert torch.allclose(grads["1.weight"][i], torch.autograd.grad(value, net[1].weight)[0], atol=1e-6)


def test_the_sum_of_clipped_gradients_is_divided_by_the_expected_batch(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0))
    x, y = data.domain.inputs(data.train.pixels(slice(0, 6))), data.train.labels[:6]
    got, _ = gradient(net, cross_entropy, x, y, stack(noise_multiplier=0.0, max_grad_norm=0.5), Rng(0), expected=8)
    total: dict[str, Tensor] = {}
    for g in one_by_one(net, x, y):
        norm = torch.cat([t.flatten() for t in g.values()]).norm()
        assert norm > 0.5
        total = {n: total.get(n, 0) + t * 0.5 / norm for n, t in g.items()}
    assert all(torch.allclose(got[n], t / 8, atol=1e-6) for n, t in total.items())


WIDE = MLP(width=64, depth=2, activation="tanh", dropout=0.0, init="default", init_bound=0.5)


@pytest.mark.parametrize("held", [1, 2**24])
def test_gradients_that_are_not_formed_add_up_to_the_same(
    held: int, data: Data, lenet: ConvNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes through the layers tells their lengths, or compiled code forms them; one by one and together."""
    monkeypatch.setattr(per_example, "_PASSING", {"cpu": held})
    for architecture in (WIDE, lenet):
        net = architecture.build(data.domain, Rng(0)).double()
        x, y = data.domain.inputs(data.train.pixels(slice(0, 6))).double(), data.train.labels[:6]
        found = []
        for share, wanted in ((float("inf"), False), (0.0, False), (0.0, True)):
            monkeypatch.setattr(per_example, "_SHARE", share)
            with compiled(wanted):
                found.append(defended_sum(net, cross_entropy, x, y, {}, stack(max_grad_norm=0.5), Rng(0)))
        (one, loss), *others = found
        for other, same in others:
            assert all(torch.allclose(one[n], g, atol=1e-12) for n, g in other.items())
            assert torch.allclose(loss, same)


def test_large_gradients_are_not_formed(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where a layer is frozen is the way left that knows of it."""
    net = WIDE.build(data.domain, Rng(0))
    x, y = data.domain.inputs(data.train.pixels(slice(0, 6))), data.train.labels[:6]
    formed: list[int] = []
    plain = example_gradients
    monkeypatch.setattr(per_example, "example_gradients", lambda *a: formed.append(1) or plain(*a))
    defended_sum(net, cross_entropy, x, y, {}, stack(max_grad_norm=0.5), Rng(0))
    assert not formed
    net[1].weight.requires_grad_(False)
    total, _ = defended_sum(net, cross_entropy, x, y, {}, stack(max_grad_norm=0.5), Rng(0))
    assert formed
    assert len(total) == len(list(net.parameters())) - 1


def test_a_layer_that_is_passed_twice_is_clipped_as_a_whole() -> None:
    """By a block whose own way nobody knows; one that stands in two places is told by the network itself."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(30, 30)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.inner(x).tanh())

    shared = nn.Linear(30, 30)
    x, y = torch.rand(5, 30, generator=Rng(0).generator()).double(), torch.tensor([0, 1, 2, 3, 4])
    assert layers_with_parameters(nn.Sequential(shared, nn.Tanh(), shared)) is None
    net = nn.Sequential(Twice(), nn.Tanh()).double()
    total, _ = defended_sum(net, cross_entropy, x, y, {}, stack(max_grad_norm=0.01), Rng(0))
    clipped = [{n: g * 0.01 / torch.cat([t.flatten() for t in own.values()]).norm() for n, g in own.items()}
               for own in one_by_one(net, x, y)]  # fmt: skip
    assert all(torch.allclose(g, torch.stack([own[n] for own in clipped]).sum(0), rtol=1e-3) for n, g in total.items())


class Centred(nn.Module):
    """What an example comes to depends on the others, if it is not by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True) / 2


@pytest.mark.parametrize("kind", ["mixes examples", "weights that are made of others"])
def test_layers_that_are_not_what_they_seem_are_clipped_example_by_example(kind: str) -> None:
    net = nn.Sequential(nn.Linear(30, 30), Centred() if kind == "mixes examples" else nn.Tanh(), nn.Linear(30, 5))
    if kind != "mixes examples":
        prune.random_unstructured(net[0], "weight", 0.5)
    net.double()
    x, y = torch.rand(5, 30, generator=Rng(0).generator()).double(), torch.tensor([0, 1, 2, 3, 4])
    total, _ = defended_sum(net, cross_entropy, x, y, {}, stack(max_grad_norm=0.01), Rng(0))
    clipped = [{n: g * 0.01 / torch.cat([t.flatten() for t in own.values()]).norm() for n, g in own.items()}
               for own in one_by_one(net, x, y)]  # fmt: skip
    assert all(torch.allclose(g, torch.stack([own[n] for own in clipped]).sum(0), rtol=1e-3) for n, g in total.items())


def test_noise_has_the_deviation_that_is_accounted() -> None:
    grad = {"w": torch.zeros(200, 300), "b": torch.zeros(500)}
    got = stack(noise_multiplier=2.0, max_grad_norm=3.0).gradient(grad, 8, Rng(0))
    assert got["w"].std().item() == pytest.approx(2 * 3 / 8, rel=0.02)
    assert abs(got["w"].mean().item()) < 0.01
    assert not torch.equal(got["w"].flatten()[:500], got["b"])


def test_an_empty_batch_leaves_noise_alone(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0))
    empty = data.domain.inputs(data.train.pixels(slice(0, 0))), data.train.labels[:0]
    quiet, value = gradient(net, cross_entropy, *empty, stack(noise_multiplier=0.0), Rng(0), expected=8)
    assert all((g == 0).all() for g in quiet.values())
    assert value == 0
    noisy, _ = gradient(net, cross_entropy, *empty, stack(noise_multiplier=1.0), Rng(0), expected=8)
    assert torch.cat([g.flatten() for g in noisy.values()]).std().item() == pytest.approx(1 / 8, rel=0.1)


def test_poisson_batches_have_the_rate_that_is_accounted() -> None:
    sizes = [len(dp().sample(1000, 50, Rng(0).child(n))) for n in range(400)]
    mean = sum(sizes) / 400
    assert mean == pytest.approx(50, rel=0.02)
    assert sum((s - mean) ** 2 for s in sizes) / 400 == pytest.approx(1000 * 0.05 * 0.95, rel=0.2)
    assert len(dp().sample(10, 64, Rng(0))) == 10


# --- training ------------------------------------------------------------------------------------------


def trained(setting: Any, data: Data, lenet: ConvNet, defense: Stack) -> System:
    return setting.train(data, lenet, defense, Rng(0), Bench())


def same(a: Tensors, b: Tensors, atol: float) -> bool:
    return all(torch.allclose(w, b[n], atol=atol) for n, w in a.items())


def test_without_clip_and_noise_it_is_plain_training(data: Data, lenet: ConvNet) -> None:
    common = {"optimizer": "sgd", "lr": 0.1, "batch_size": 8}
    settings = [fedavg(**common), central(**common)]
    fields = {k: v for k, v in vars(settings[0]).items() if k not in ("local_epochs", "local_steps", "parallel")}
    for setting in [*settings, FedSGD(**fields)]:
        plain = trained(setting, data, lenet, Stack({}))
        private = trained(setting, data, lenet, stack(**NONE, poisson=False))
        assert same(private.snapshots[2], plain.snapshots[2], 1e-6)


def test_without_clip_and_noise_drawn_batches_train_plainly(data: Data, lenet: ConvNet) -> None:
    """The same batches, some of them empty, and their summed gradients by hand."""
    net = lenet.build(data.domain, Rng(0))
    start, own = weights_of(net), data.train.take(torch.arange(12))
    schedule, defense = LocalSchedule(Optimizer("sgd", 0.5, 0.0), 6, None, 2), stack(**NONE)
    examples = labelled(own, data.domain, [torch.arange(12)])
    given = Training(net, alike(start, 1), None, cross_entropy, examples, schedule, [Rng(0)])
    after = replica(fit(given, defense).weights, 0)
    net.load_state_dict(start)
    sizes = []
    for n in range(36):
        batch = defense.sample(12, 2, Rng(0).child("sample", n))
        sizes.append(len(batch))
        x, y = data.domain.inputs(own.pixels(batch)), own.labels[batch]
        loss = cross_entropy(net(x), y, reduction="sum") / 2
        for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.data -= 0.5 * g
    assert 0 in sizes
    assert same(after, weights_of(net), 1e-5)


def test_a_private_federation_trains_reproducibly_and_noise_costs_utility(data: Data, lenet: ConvNet) -> None:
    setting = fedavg(rounds=1, local_epochs=20, lr=0.05)
    weak = trained(setting, data, lenet, stack(noise_multiplier=0.1))
    again = trained(setting, data, lenet, stack(noise_multiplier=0.1))
    assert same(weak.snapshots[1], again.snapshots[1], 0)
    strong = trained(setting, data, lenet, stack(noise_multiplier=50.0))
    assert strong.utility["train_accuracy"] < weak.utility["train_accuracy"]


def test_stacking_asked_for_gives_the_same_weights(data: Data, lenet: ConvNet) -> None:
    turn, together = (trained(fedavg(parallel=p), data, lenet, stack()) for p in ("sequential", "stacked"))
    assert same(turn.snapshots[2], together.snapshots[2], 0)


@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_a_captured_update_is_the_private_one(data: Data, lenet: ConvNet, what: Any) -> None:
    setting = fedavg(rounds=0, capture=capture(batch_size=2, what=what), optimizer="sgd", lr=1.0, local_epochs=1)

    def seen(defense: Stack) -> Tensor:
        system = trained(setting, data, lenet, defense)
        out = setting.views()[0].expose(system, data, lenet, defense, Rng(0))
        return torch.cat([d.flatten(1) for d in out.seen.delta.values()], 1)  # type: ignore[union-attr]

    clipped = seen(stack(noise_multiplier=0.0, max_grad_norm=0.1))
    assert (clipped.norm(dim=1) <= 0.1001).all()
    noise = seen(stack(noise_multiplier=2.0, max_grad_norm=0.1)) - clipped
    assert noise.std().item() == pytest.approx(2 * 0.1 / 2, rel=0.1)
