import math
from dataclasses import replace

import pytest
import torch
from tiny import TRAINED, Bench, fedavg
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.exposure.activations import ActivationCapture
from privsweep.fl_setting.split import SplitFed
from privsweep.interface.component import marked, without
from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Exposure, System
from privsweep.interface.training import LocalSchedule
from privsweep.interface.truth import Images
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.split_at import cut
from privsweep.training.local import parameters_of, weights_of


class Constant(Defense):
    def activations(self, z: Tensor, rng: Rng) -> Tensor:
        return 0 * z


class Clipping(Defense):
    def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
        return grads


def where(**changes: object) -> ActivationCapture:
    return ActivationCapture(**{"round": "last", "client": 0, "batch_size": 1, "mode": "eval", **changes})


def split(**changes: object) -> SplitFed:
    values = {
        **TRAINED, "clients": 3, "rounds": 2, "participation": 1.0, "partition": "iid", "dirichlet_alpha": 0.5,
        "local_epochs": 2, "local_steps": None, "optimizer": "adam", "lr": 0.01, "capture": where(), "cut": "act2",
        "reveals": "each",
    }  # fmt: skip
    return SplitFed(**{**values, **changes})


def trained(setting: object, data: Data, model: object, *defenses: Defense) -> System:
    stack = Stack({type(d).__name__: d for d in defenses})
    return setting.train(data, model, stack, Rng(0), Bench())  # type: ignore[attr-defined]


def exposed(data: Data, model: object, *defenses: Defense, **changes: object) -> Exposure:
    setting = split(**{"rounds": 0, **changes})
    stack = Stack({type(d).__name__: d for d in defenses})
    setting.check(data, model, stack, Rng(0))
    setting.views()[0].check(data, model, stack, Rng(0))
    system = setting.train(data, model, stack, Rng(0), Bench())
    return setting.views()[0].expose(system, data, model, stack, Rng(0))


def close(a: System, b: System, atol: float = 1e-6) -> bool:
    return all(torch.allclose(w, b.snapshots[b.last][n], atol=atol) for n, w in a.snapshots[a.last].items())


@pytest.mark.parametrize("layer", ["conv1", "act2", "flatten"])
def test_with_one_client_the_cut_does_not_matter(layer: str, data: Data, lenet: ConvNet) -> None:
    plain = trained(fedavg(clients=1), data, lenet)
    assert close(plain, trained(split(clients=1, cut=layer), data, lenet))


def test_a_round_is_the_protocol_step_by_step(data: Data, lenet: ConvNet) -> None:
    """Activations go up, the gradient at the cut comes back, clients take turns, and their parts are averaged."""
    setting = split(optimizer="sgd", lr=0.1, rounds=1, local_epochs=1, partition="dirichlet")
    net = setting.network(data, lenet, Stack({}), Rng(0))
    shards = setting.shards(data, Rng(0))
    assert len({len(s) for s in shards}) > 1
    schedule = LocalSchedule(setting.rule(), 1, None, setting.batch_size)
    batches = [list(schedule.batches(len(s), Rng(0).child("round", 0, "client", c))) for c, s in enumerate(shards)]
    _, tail = cut(net, "act2")
    start = weights_of(net)
    heads = [cut(setting.network(data, lenet, Stack({}), Rng(0)), "act2")[0] for _ in shards]
    for step in range(max(map(len, batches))):
        for client, head in enumerate(heads):
            if step >= len(batches[client]):
                continue
            own = data.train.take(shards[client][batches[client][step]])
            z = head(data.domain.inputs(own.pixels()))
            received = z.detach().requires_grad_()
            loss = cross_entropy(tail(received), own.labels)
            returned, *server = torch.autograd.grad(loss, [received, *tail.parameters()])
            client_side = torch.autograd.grad(z, list(head.parameters()), returned)
            with torch.no_grad():
                for part, grads in ((head, client_side), (tail, server)):
                    for p, g in zip(part.parameters(), grads, strict=True):
                        p -= 0.1 * g
    after = trained(setting, data, lenet).snapshots[1]
    for name in parameters_of(tail, start):
        assert torch.allclose(after[name], tail.state_dict()[name], atol=1e-6)
    for name in parameters_of(heads[0], start):
        mean = sum(h.state_dict()[name] * (len(s) / len(data.train)) for h, s in zip(heads, shards, strict=True))
        assert torch.allclose(after[name], mean, atol=1e-6)


def test_training_learns(data: Data, lenet: ConvNet) -> None:
    system = trained(split(rounds=4, local_epochs=15, lr=0.03, checkpoints=[2]), data, lenet)
    assert sorted(system.snapshots) == [0, 2, 4]
    assert system.utility["train_accuracy"] > 0.8


def test_a_training_that_diverged_has_no_loss(data: Data, lenet: ConvNet) -> None:
    given = {"clients": 1, "optimizer": "sgd", "lr": 1e38, "momentum": 0.0, "rounds": 1}
    for setting in (split(**given), fedavg(**given)):
        assert math.isnan(trained(setting, data, lenet).curve[-1]["loss"])


class Drawing(Defense):
    """Batches of the first ``size`` examples in every other step, and of none in the others."""

    def __init__(self, size: int):
        self.size = size

    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        return torch.arange(self.size if int(rng.path[-2]) % 2 else 0)


@pytest.mark.parametrize("size", [0, 4])
def test_batches_without_examples_count_for_no_loss(size: int, data: Data, lenet: ConvNet) -> None:
    given = {"clients": 1, "rounds": 1, "batch_size": 8}
    alike = [trained(setting, data, lenet, Drawing(size)) for setting in (split(**given), fedavg(**given))]
    losses = [system.curve[-1]["loss"] for system in alike]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (losses[0] == 0) == (size == 0)


def test_what_is_exposed_changes_no_training(data: Data, lenet: ConvNet) -> None:
    setting = split()
    blind = without(setting, marked(setting, "training"))
    changed = {"capture": where(client=2, batch_size=3, mode="train"), "victims": 7, "reveals": "mean"}
    assert set(changed) <= marked(setting, "training")
    for other in (blind, split(**changed)):
        assert close(trained(setting, data, lenet), trained(other, data, lenet), atol=0)


def test_it_exposes_what_the_clients_part_makes_of_the_images(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, rounds=1, capture=where(client=1, batch_size=2), labels_known=True)
    assert isinstance(out.seen, Activations)
    assert isinstance(out.truth, Images)
    shard = split().shards(data, Rng(0))[1].tolist()
    assert out.truth.index.shape == (3, 2)
    assert set(out.truth.index.flatten().tolist()) <= set(shard)
    for victim in range(3):
        x = data.domain.inputs(data.train.pixels(out.truth.index[victim]))
        assert torch.allclose(out.seen.z[victim], out.known.model(x), atol=1e-6)
    assert not out.seen.z.requires_grad
    assert out.seen.weights.keys() == out.known.model.state_dict().keys()
    assert torch.equal(out.known.labels, out.truth.labels)  # type: ignore[arg-type]
    assert out.known.labels is not out.truth.labels
    hidden = {t.untyped_storage().data_ptr() for t in vars(out.truth).values() if t is not None}
    assert out.seen.z.untyped_storage().data_ptr() not in hidden


def test_the_mean_of_a_message_hides_the_images(data: Data, lenet: ConvNet) -> None:
    each = exposed(data, lenet, capture=where(batch_size=4))
    mean = exposed(data, lenet, capture=where(batch_size=4), reveals="mean")
    assert isinstance(each.seen, Activations)
    assert isinstance(mean.seen, Activations)
    assert mean.seen.examples == 4
    assert torch.allclose(mean.seen.z, each.seen.z.mean(1, keepdim=True), atol=1e-6)
    assert torch.equal(mean.truth.pixels, each.truth.pixels)  # type: ignore[union-attr]


def test_train_mode_takes_the_batchs_statistics_and_leaves_the_running_ones(data: Data, lenet: ConvNet) -> None:
    normed = replace(lenet, norm="batch")
    train, still = (exposed(data, normed, capture=where(batch_size=4, mode=mode)) for mode in ("train", "eval"))
    assert not torch.allclose(train.seen.z, still.seen.z)  # type: ignore[union-attr]
    start = split().network(data, normed, Stack({}), Rng(0)).state_dict()
    assert all(torch.equal(w, start[n]) for n, w in train.seen.weights.items())  # type: ignore[union-attr]


def test_a_defence_of_activations_stands_at_the_cut(data: Data, lenet: ConvNet) -> None:
    assert not exposed(data, lenet, Constant()).seen.z.any()  # type: ignore[union-attr]
    start, after = (trained(split(rounds=1), data, lenet, Constant()).snapshots[r] for r in (0, 1))
    assert torch.equal(start["conv1.weight"], after["conv1.weight"])  # no gradient comes back
    assert not torch.equal(start["output.bias"], after["output.bias"])
    reason = split().refuses(Stack({"constant": Constant(), "clipping": Clipping()}))
    assert reason is not None
    assert "leave one of them out" in reason


def test_noise_on_the_aggregate_is_refused_for_it_leaves_the_servers_part_bare() -> None:
    class Noise(Defense):
        def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
            return mean

    assert "the server's part" in str(split().refuses(Stack({"noise": Noise()})))
    assert split().refuses(Stack({})) is None


def test_other_defences_act_as_in_a_federation(data: Data, lenet: ConvNet) -> None:
    plain = trained(split(), data, lenet)
    silent = NoisyGradients(sigma=0.0, distribution="gaussian")
    assert close(plain, trained(split(), data, lenet, silent), atol=0)
    assert close(plain, trained(split(), data, lenet, Clipping()), atol=1e-5)
    masked = SecureAggregation(fraction_bits=24, bits=48, dropout=0.0, threshold=2)
    assert close(plain, trained(split(), data, lenet, masked), atol=1e-4)


def test_the_black_box_answers(data: Data, lenet: ConvNet) -> None:
    setting = split(rounds=1, candidates=20)
    system = trained(setting, data, lenet)
    out = setting.views()[1].expose(system, data, lenet, Stack({}), Rng(0))
    assert torch.allclose(out.seen.probabilities.sum(1), torch.ones(20))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cut": 1}, r"fl_setting\.cut=1: the model has no layer of that name"),
        ({"cut": "pool2"}, r"fl_setting\.cut=pool2: .* choose one of conv1, act1, conv2, "),
        ({"cut": "output"}, r"fl_setting\.cut=output: the server's part has nothing to learn.* choose one of conv1"),
        ({"victims": 21}, r"fl_setting\.victims=21: .*client 0 holds 20; take fewer"),
        ({"capture": where(client=3)}, r"fl_setting\.capture\.client=3"),
        ({"capture": where(round=1)}, r"fl_setting\.capture\.round=1"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], line: str, data: Data, lenet: ConvNet) -> None:
    with pytest.raises(UserError, match=line):
        exposed(data, lenet, **changes)


def test_a_client_that_would_send_its_images_is_refused(data: Data) -> None:
    mlp = MLP(width=4, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    with pytest.raises(UserError, match=r"the client's part has nothing to learn.* choose one of fc1, fcact1$"):
        exposed(data, mlp, cut="flatten")
    linear = MLP(width=4, depth=0, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    with pytest.raises(UserError, match=r"the server's part has nothing to learn.* take a model of more layers"):
        exposed(data, linear, cut="output")


def test_the_parts_name_their_layers_as_the_whole_does(data: Data, lenet: ConvNet) -> None:
    net = split().network(data, lenet, Stack({}), Rng(0))
    head, tail = cut(net, "act2")
    assert isinstance(head, nn.Sequential)
    assert {**head.state_dict(), **tail.state_dict()}.keys() == net.state_dict().keys()
    x = data.domain.inputs(data.train.pixels())
    assert torch.equal(tail(head(x)), net(x))
