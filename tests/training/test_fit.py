"""One replica or several, in turn or stacked, wholly or in part: the same training."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Decay, Examples, LocalSchedule, Optimizer, Training, alike, labelled, some
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.training.augmentation import crop_flip
from privsweep.training.fit import Fitted, Halfway, Kept, fit
from privsweep.training.local import weights_of
from privsweep.training.stacked import Parallel

ADAM, SGD, RMSPROP = Optimizer("adam", 0.01, 0.0), Optimizer("sgd", 0.1, 0.9), Optimizer("rmsprop", 0.01, 0.0)
UNEQUAL = [torch.arange(a, b) for a, b in [(0, 20), (20, 33), (33, 60)]]
MLP_2 = MLP(width=12, depth=2, activation="relu", dropout=0.2, init="default", init_bound=0.5)


class Double:
    """The domain in float64, so that only the order of sums is left to differ."""

    def __init__(self, data: Data):
        self.domain = data.domain

    def inputs_of(self, examples: Any, index: torch.Tensor) -> torch.Tensor:
        return self.domain.inputs(examples.pixels(index).double())


def training(world: Data, net: nn.Module, rule: Optimizer = ADAM, **changes: Any) -> Training:
    """Three replicas of unequal size, so that padded examples and replicas that are done take part."""
    values = {
        "net": net, "start": alike(weights_of(net), 3), "trainable": None, "loss": cross_entropy,
        "data": labelled(world.train, Double(world), UNEQUAL),  # type: ignore[arg-type]
        "schedule": LocalSchedule(rule, epochs=2, steps=None, batch_size=8),
        "rngs": [Rng(0).child("client", k) for k in range(3)],
    }  # fmt: skip
    return Training(**{**values, **changes})


def close(a: Fitted, b: Fitted) -> bool:
    return all(torch.allclose(w, b.weights[n], rtol=1e-9, atol=1e-10) for n, w in a.weights.items())


@pytest.mark.parametrize("rule", [ADAM, SGD, RMSPROP])
@pytest.mark.parametrize("model", ["lenet", "mlp"])
def test_stacked_replicas_train_as_in_turn(data: Data, lenet: ConvNet, rule: Optimizer, model: str) -> None:
    net = (lenet if model == "lenet" else MLP_2).build(data.domain, Rng(0)).double()
    given = training(data, net, rule)
    turn, stack = (fit(given, parallel=p) for p in ("sequential", "stacked"))
    assert close(turn, stack)
    assert torch.allclose(turn.losses, stack.losses, atol=1e-5)


@pytest.mark.parametrize("rule", [ADAM, SGD, RMSPROP])
@pytest.mark.parametrize("parallel", ["sequential", "stacked", "abreast"])
def test_replicas_that_are_kept_begin_every_training_anew(
    data: Data, lenet: ConvNet, rule: Optimizer, parallel: Parallel
) -> None:
    """To the last bit: other weights to start from, other examples, and nothing remembered."""
    kept, net = Kept(), lenet.build(data.domain, Rng(0)).double()
    first = training(data, net, rule)
    own = [torch.arange(a, b) for a, b in [(5, 30), (30, 38), (40, 60)]]
    begun = fit(first, parallel=parallel, kept=kept)
    second = training(
        data, net, rule, start=begun.weights, rngs=[Rng(1).child("client", k) for k in range(3)],
        data=labelled(data.train, Double(data), own),  # type: ignore[arg-type]
    )  # fmt: skip
    again, anew = (fit(second, parallel=parallel, kept=before) for before in (kept, None))
    assert all(torch.equal(w, again.weights[name]) for name, w in anew.weights.items())
    assert torch.equal(anew.losses, again.losses)
    assert torch.equal(fit(first, parallel=parallel, kept=kept).losses, begun.losses)


def normalised(data: Data) -> nn.Module:
    architecture = ConvNet(
        width=4, layers=[1], depth=2, kernel=3, pool_after=[1], pooling="max", norm="batch", fc=[], fc_width=None,
        padding="same", activation="relu", init="default", init_bound=0.5,
    )  # type: ignore[arg-type]  # fmt: skip
    return architecture.build(data.domain, Rng(0)).double()


@pytest.mark.parametrize("parallel", ["sequential", "stacked", "abreast"])
def test_running_statistics_begin_anew_too(data: Data, parallel: Parallel) -> None:
    own = [torch.arange(a, a + 20) for a in (0, 20, 40)]
    given = training(data, normalised(data), data=labelled(data.train, Double(data), own))  # type: ignore[arg-type]
    kept = Kept()
    first, again = (fit(given, parallel=parallel, kept=kept) for _ in range(2))
    assert all(torch.equal(w, again.weights[name]) for name, w in first.weights.items())


@pytest.mark.parametrize("defense", [Defense(), NoisyGradients(sigma=0.1, distribution="gaussian")])
def test_replicas_abreast_train_to_the_last_bit_as_in_turn(data: Data, defense: Defense) -> None:
    """Whatever they are: of unequal size, with batch normalisation, changed at random, under noise."""
    given = training(data, normalised(data))
    given = replace(given, data=replace(given.data, augment=crop_flip))
    for rounds in (None, 2):
        turn, side = (fit(given, defense, parallel=p, rounds=rounds) for p in ("sequential", "abreast"))
        assert all(torch.equal(w, side.weights[n]) for n, w in turn.weights.items())
        assert torch.equal(turn.losses, side.losses)


def test_replicas_may_have_defences_of_their_own(data: Data) -> None:
    given = training(data, MLP_2.build(data.domain, Rng(0)).double())
    defenses = [Defense(), *(NoisyGradients(sigma=s, distribution="gaussian") for s in (0.1, 1.0))]
    each = [fit(some(given, slice(k, k + 1)), d).weights for k, d in enumerate(defenses)]
    for parallel in ("sequential", "stacked", "abreast"):
        found = fit(given, defenses, parallel=parallel).weights  # type: ignore[arg-type]
        assert all(torch.equal(w[k], own[n][0]) for n, w in found.items() for k, own in enumerate(each))


@pytest.mark.parametrize("rule", [ADAM, SGD, RMSPROP])
def test_a_training_goes_on_in_another_way_than_it_began(data: Data, lenet: ConvNet, rule: Optimizer) -> None:
    equal = [torch.arange(a, a + 20) for a in (0, 20, 40)]
    own = labelled(data.train, Double(data), equal)  # type: ignore[arg-type]
    given = training(data, lenet.build(data.domain, Rng(0)).double(), rule, data=own)
    whole = fit(given, parallel="stacked", rounds=3)
    ways: list[tuple[Parallel, Parallel]] = [("stacked", "abreast"), ("abreast", "stacked")]
    for first, then in ways:
        kept: dict[int, Halfway] = {}

        def keep(n: int, weights: Tensors, losses: Any, state: Any, kept: dict[int, Halfway] = kept) -> None:
            kept[n] = Halfway(n, state())

        begun = fit(given, parallel=first, rounds=2, after=keep)
        rest = fit(replace(given, start=begun.weights), parallel=then, rounds=3, halfway=kept[2])
        assert close(whole, rest)


def test_running_statistics_of_a_stack_are_each_replicas_own(data: Data) -> None:
    equal = [torch.arange(a, a + 20) for a in (0, 20, 40)]
    own = labelled(data.train, Double(data), equal)  # type: ignore[arg-type]
    given = training(data, normalised(data), SGD, data=own)  # Adam would blow up the rounding of biases that do nothing
    turn, stack = (fit(given, parallel=p) for p in ("sequential", "stacked"))
    assert close(turn, stack)
    means = stack.weights["norm1.running_mean"]
    assert not torch.allclose(means[0], means[1])


def test_padding_enters_no_statistics_of_a_batch(data: Data) -> None:
    """Replicas of unequal size are padded in a stack; with batch normalisation they train in turn instead."""
    given = training(data, normalised(data))
    turn, stack = (fit(given, parallel=p) for p in ("sequential", "stacked"))
    assert all(torch.equal(w, stack.weights[n]) for n, w in turn.weights.items())


def test_the_layout_of_weights_in_memory_changes_nothing(data: Data) -> None:
    """On a GPU they lie pixel by pixel; fused optimisers go by memory alone."""
    own = labelled(data.train, Double(data), [torch.arange(60)])  # type: ignore[arg-type]
    single = {"data": own, "start": alike(weights_of(normalised(data)), 1), "rngs": [Rng(0)]}
    plain = fit(training(data, normalised(data), SGD, **single))
    by_pixel = normalised(data).to(memory_format=torch.channels_last)
    assert close(plain, fit(training(data, by_pixel, SGD, **single)))


def test_the_learning_rate_follows_its_course(data: Data) -> None:
    cycle, cosine = (Optimizer("sgd", 0.5, 0.0, decay=d) for d in ("one_cycle", "cosine"))
    assert [round(cycle.rate(t), 3) for t in (0.0, 0.1, 0.2, 0.6, 1.0)] == [0.0, 0.25, 0.5, 0.25, 0.0]
    assert [round(cosine.rate(t), 3) for t in (0.0, 0.5, 1.0)] == [0.5, 0.25, 0.0]
    assert ADAM.rate(0.7) == ADAM.lr
    early = replace(cosine, share=0.5)  # ends halfway
    assert [round(early.rate(t), 3) for t in (0.0, 1.0)] == [0.5, 0.25]
    net = MLP_2.build(data.domain, Rng(0)).double()
    constant, decayed = (fit(training(data, net, rule), rounds=1) for rule in (Optimizer("sgd", 0.5, 0.0), cosine))
    assert not close(constant, decayed)


@pytest.mark.parametrize("decay", ["cosine", "one_cycle"])
@pytest.mark.parametrize("rounds", [None, 2])
@pytest.mark.parametrize("parallel", ["stacked", "abreast"])
def test_a_rate_falls_by_a_replicas_own_steps(decay: Decay, rounds: int | None, parallel: Parallel, data: Data) -> None:
    """However unequal those are that train beside it."""
    rule = Optimizer("sgd", 0.5, 0.0, decay=decay)
    given = training(data, MLP_2.build(data.domain, Rng(0)).double(), rule)
    turn, beside = (fit(given, parallel=p, rounds=rounds) for p in ("sequential", parallel))
    assert all(torch.equal(w, beside.weights[n]) for n, w in turn.weights.items())


def test_images_are_shifted_and_mirrored_each_by_itself_and_again_alike(data: Data) -> None:
    x = torch.arange(2 * 1 * 8 * 8.0).view(2, 1, 8, 8) + 1
    once, again = (crop_flip(x.repeat(20, 1, 1, 1), Rng(0)) for _ in range(2))
    assert torch.equal(once, again)
    assert len(torch.unique(once.flatten(1), dim=0)) > 30
    kept = set(x.flatten().tolist()) | {0.0}
    assert set(once.flatten().tolist()) <= kept
    net = MLP_2.build(data.domain, Rng(0)).double()
    plain = training(data, net)
    changed = replace(plain, data=replace(plain.data, augment=crop_flip))
    turn, stack = (fit(changed, parallel=p) for p in ("sequential", "stacked"))
    assert close(turn, stack)
    assert not close(turn, fit(plain))


@pytest.mark.parametrize("parallel", ["sequential", "stacked", "abreast"])
def test_what_is_frozen_stays_to_the_last_bit(data: Data, lenet: ConvNet, parallel: Any) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    kept = weights_of(net)
    for trainable in (["output"], ["output.weight", "output.bias"], lambda name: name.startswith("output")):
        part = fit(training(data, net, trainable=trainable), parallel=parallel)
        for name, w in part.weights.items():
            assert all(torch.equal(own, kept[name]) != name.startswith("output") for own in w), name
    assert all(p.requires_grad for p in net.parameters())


def test_stacked_replicas_are_frozen_as_in_turn(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    given = training(data, net, trainable=["conv2", "output"])
    assert close(*(fit(given, parallel=p) for p in ("sequential", "stacked")))


def test_frozen_layers_keep_their_running_statistics(data: Data) -> None:
    normed = ConvNet(
        width=3, layers=[1], depth=1, kernel=3, pool_after=[1], pooling="max", norm="batch", fc=[], fc_width=None,
        padding="same", activation="relu", init="default", init_bound=0.5,
    )  # fmt: skip
    net = normed.build(data.domain, Rng(0)).double()
    before = weights_of(net)
    whole, part = (fit(training(data, net, trainable=t, start=alike(before, 3))).weights for t in (None, ["output"]))
    statistics = [name for name in before if "running" in name]
    assert statistics
    for name in statistics:
        assert not torch.equal(whole[name][0], before[name])
        assert all(torch.equal(w, before[name]) for w in part[name])


def test_a_frozen_part_has_no_gradient_of_single_examples(data: Data, lenet: ConvNet) -> None:
    heard = []

    class Clipping(Defense):
        def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
            heard.append(set(grads))
            return grads

    net = lenet.build(data.domain, Rng(0)).double()
    given = training(data, net, trainable=["output"])
    assert close(fit(given, Clipping()), fit(given))
    assert all(names == {"output.weight", "output.bias"} for names in heard)


@pytest.mark.parametrize("trainable", [["outputs"], [], lambda name: False])
def test_what_cannot_be_trained_is_refused(data: Data, lenet: ConvNet, trainable: Any) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    with pytest.raises(ValueError, match="trainable"):
        fit(training(data, net, trainable=trainable))


@pytest.mark.parametrize("parallel", ["sequential", "stacked"])
def test_rounds_go_on_with_one_optimiser_and_streams_of_their_own(data: Data, lenet: ConvNet, parallel: Any) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    equal = [torch.arange(k, k + 20) for k in (0, 20, 40)]
    given = training(data, net, SGD, data=labelled(data.train, Double(data), equal))  # type: ignore[arg-type]
    seen: list[int] = []
    twice = fit(given, parallel=parallel, rounds=2, after=lambda done, *_: seen.append(done))
    assert seen == ([1, 2] if parallel == "stacked" else [1, 2] * 3)
    first = {name: w[:1] for name, w in given.start.items()}
    alone = training(data, net, SGD, start=first, rngs=given.rngs[2:],
                     data=labelled(data.train, Double(data), equal[2:]))  # type: ignore[arg-type]  # fmt: skip
    only = fit(alone, rounds=2)
    assert all(torch.allclose(w[2], only.weights[n][0], rtol=1e-9, atol=1e-10) for n, w in twice.weights.items())


def test_without_rounds_nothing_moves(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    start = weights_of(net)
    assert all(torch.equal(w[0], start[n]) for n, w in fit(training(data, net), rounds=0).weights.items())


def test_progress_counts_the_steps_of_all(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0)).double()
    for parallel, total, replicas in (("sequential", 6 + 4 + 8, 1), ("stacked", 8, 3), ("abreast", 8, 3)):
        heard: list[tuple[int, int, int]] = []
        fit(
            training(data, net),
            parallel=parallel,  # type: ignore[arg-type]
            watch=lambda done, total, losses, heard=heard: heard.append((done, total, len(losses))),  # type: ignore[misc]
        )
        assert heard == [(done + 1, total, replicas) for done in range(total)]


def test_a_decoder_learns_whatever_targets_it_is_given() -> None:
    net = nn.Sequential(nn.Linear(3, 2)).double()
    x = torch.randn(50, 3, generator=Rng(0).generator()).double()
    y = x @ torch.tensor([[1.0, 0.0], [0.0, -2.0], [1.0, 1.0]]).double()
    schedule = LocalSchedule(Optimizer("sgd", 0.3, 0.0), epochs=100, steps=None, batch_size=10)
    examples = Examples(lambda rows: (x[rows], y[rows]), [torch.arange(50)])
    fitted = fit(Training(net, alike(weights_of(net), 1), None, mse_loss, examples, schedule, [Rng(0)]))
    assert fitted.losses.item() < 0.1
    assert torch.allclose(fitted.weights["0.weight"][0].T, torch.tensor([[1, 0], [0, -2], [1, 1]]).double(), atol=1e-3)
