"""The presets iga, cpl and idlg of gradient matching, and what adapts them to a defence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cosine_similarity, cross_entropy

from privsweep.attack.gradient_matching import GradientMatching
from privsweep.defense.central_dp import CentralDp
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.precode import Precode
from privsweep.defense.soteria import Soteria
from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Data
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure
from privsweep.metric.score import score
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.stochastic import noise_layers
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run_spec import signed

SMLP = MLP(width=64, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)
LENET = ConvNet(
    width=4, layers=[1, 1], depth=2, kernel=3, pool_after=[1], pooling="max", norm="none", fc=[], fc_width=None,
    padding="same", activation="tanh", init="default", init_bound=0.5,
)  # fmt: skip
PRECODE = Stack({"precode": Precode(k=8, beta=1e-3)})


def preset(name: str, **changes: Any) -> GradientMatching:
    """As its YAML states it, with some fields changed."""
    with searching(None):
        attack = build(compose([f"attack={name}", "fl_setting.labels_known=true"])).attack
    assert isinstance(attack, GradientMatching)
    return replace(attack, **changes)


def exposed(
    data: Data, model: Architecture, defense: Stack | None = None, batch: int = 1, victims: int = 3
) -> Exposure:
    stack = defense or Stack({})
    setting = fedavg(rounds=0, victims=victims, labels_known=True, capture=capture(batch_size=batch))
    system = setting.train(data, model, stack, Rng(0), Bench())
    return setting.views()[0].expose(system, data, model, stack, Rng(0))


def attacked(attack: GradientMatching, out: Exposure) -> Reconstruction:
    return attack(out.seen, out.known, None, Bench(), Rng(1))


def doubled(out: Exposure) -> Exposure:
    """The same in float64."""
    seen = replace(
        out.seen,
        weights={n: w.double() for n, w in out.seen.weights.items()},
        delta={n: g.double() for n, g in out.seen.delta.items()},
    )
    return replace(out, seen=seen, known=out.known.having(model=out.known.model.double()))


def plain_iga(out: Exposure, start: Tensor, victim: int, iterations: int, tv: float, noise: list[Tensor]) -> Tensor:
    """Inverting gradients as one would write it for one victim."""
    model, domain, labels = out.known.model, out.known.domain, out.known.labels
    assert model is not None
    assert domain is not None
    assert labels is not None
    low, high = (edge.double() for edge in domain.box(torch.device("cpu")))
    goal = torch.cat([out.seen.delta[n][victim].flatten() for n, _ in model.named_parameters()])
    x = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([x], lr=0.01)
    shrink = torch.optim.lr_scheduler.MultiStepLR(
        adam, [iterations // 2.667, iterations // 1.6, iterations // 1.142], 0.1
    )
    for iteration in range(iterations):
        drawn = dict(zip(noise_layers(model), [n[iteration] for n in noise], strict=True))
        outputs = functional_call(model, drawn, (x,))[:, : domain.classes]
        own = torch.autograd.grad(cross_entropy(outputs, labels[victim]), list(model.parameters()), create_graph=True)
        distance = 1 - cosine_similarity(torch.cat([g.flatten() for g in own]), goal, dim=0)
        total = distance + tv * (x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean())
        (x.grad,) = torch.autograd.grad(total, x)
        x.grad.sign_()
        adam.step()
        shrink.step()
        x.data = torch.maximum(torch.minimum(x.data, high), low)
    return x.detach()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("defense", [Stack({}), PRECODE], ids=["undefended", "precode"])
@pytest.mark.parametrize("model", [SMLP, LENET], ids=["mlp", "lenet"])
def test_thirty_steps_of_iga_are_those_of_a_plain_loop(
    data: Data, model: Architecture, defense: Stack, batch: int
) -> None:
    out = doubled(exposed(data, model, defense, batch))
    iga = preset("iga", iterations=30, tv_weight=0.01)
    found = attacked(iga, out).images
    for victim in range(3):
        rng = Rng(1).child("victim", victim, "restart", 0)
        start = rng.normal(batch * 64).view(batch, *out.known.domain.shape).double()
        noise = []
        if defense.defenses:
            generator = rng.child("noise").generator()
            noise = [torch.randn(32, batch, 8, generator=generator).double()]
        expected = plain_iga(out, start, victim, 30, 0.01, noise)
        torch.testing.assert_close(found[victim], expected, atol=1e-6, rtol=0)


def test_iga_recovers_images_from_an_undefended_mlp(data: Data) -> None:
    out = exposed(
        data, MLP(width=256, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5), victims=4
    )
    found = attacked(preset("iga", iterations=400), out)
    metrics, *_ = score(found, out.truth, data.domain, "precode", 0.6)
    assert metrics["ssim"] > 0.95  # type: ignore[operator]
    assert found.labels is not None
    assert torch.equal(found.labels, out.truth.labels)
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_cpl_recovers_images_from_an_undefended_mlp(data: Data) -> None:
    out = exposed(
        data, MLP(width=256, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5), victims=4
    )
    found = attacked(preset("cpl", iterations=400, label_weight=1e-6), out)
    metrics, *_ = score(found, out.truth, data.domain, "precode", 0.6)
    assert metrics["ssim"] > 0.9  # type: ignore[operator]


def test_idlg_reads_the_labels_and_finds_the_images(data: Data) -> None:
    sigmoid = replace(LENET, activation="sigmoid", init="uniform", pooling="stride", kernel=5, width=8)
    out = exposed(data, sigmoid)
    without = replace(out, known=out.known.having(labels=None))
    found = attacked(preset("idlg", iterations=40, restarts=2), without)
    assert found.labels is not None
    assert torch.equal(found.labels, out.truth.labels)
    error = (found.images - data.domain.inputs(out.truth.pixels)).square().mean((1, 2, 3, 4))
    assert (error < 1e-3).sum() >= 2


def test_labels_of_a_defended_model_are_read_from_its_output_layer(data: Data) -> None:
    out = exposed(data, SMLP, PRECODE)
    found = attacked(preset("iga", iterations=2, labels="analytic"), out)
    assert found.labels is not None
    assert torch.equal(found.labels, out.truth.labels)


def test_presets_ask_for_no_more_than_they_use() -> None:
    assert preset("iga").needs == {"model", "domain", "recipe", "labels"}
    assert preset("cpl").needs == {"model", "domain", "recipe", "labels"}
    assert preset("dlg").needs == preset("idlg").needs == {"model", "domain", "recipe"}
    assert preset("iga", loss="victim").needs >= {"loss"}


def test_labels_that_are_not_granted_are_refused_with_a_remedy() -> None:
    with searching(None), pytest.raises(UserError, match=r"needs labels.*fl_setting\.labels_known=true"):
        build(compose(["attack=iga", "attack.labels=known"]))


@pytest.mark.parametrize(
    "changes", [{"sign_gradient": True}, {"clamp_pixels": True}, {"decay": True}, {"keep": "best"}, {"patience": 5}]
)
def test_what_only_adam_does_is_refused_with_lbfgs(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"attack\.optimizer=adam"):
        preset("dlg", **changes)


def test_the_restart_of_least_distance_counts_not_of_least_penalty(data: Data) -> None:
    out = exposed(data, LENET)
    iga = preset("iga", iterations=10, tv_weight=5.0)
    many = attacked(replace(iga, restarts=3), out)
    single = attacked(iga, out)
    distance = many.diagnostics["gradient_distance"]
    assert (distance <= single.diagnostics["gradient_distance"] * (1 + 1e-4)).all()
    assert "objective" in many.curve
    assert many.diagnostics["restart"].max() <= 2
    assert (many.diagnostics["evaluations"] == 33).all()


def test_keeping_the_best_is_never_worse(data: Data) -> None:
    out = exposed(data, LENET)
    last, best = (
        attacked(preset("iga", iterations=40, lr=0.5, decay=False, tv_weight=0.0, keep=keep), out).diagnostics
        for keep in ("last", "best")
    )
    assert (best["gradient_distance"] <= last["gradient_distance"] * (1 + 1e-5)).all()
    assert (best["gradient_distance"] < last["gradient_distance"]).any()


def test_patience_ends_a_hopeless_search(data: Data) -> None:
    out = exposed(data, LENET)
    found = attacked(preset("iga", iterations=300, lr=0.5, decay=False, patience=20), out)
    early = found.diagnostics["evaluations"] < 300
    assert early.any()
    assert torch.equal(found.diagnostics["stopped_early"], early)
    assert found.curve["objective"].isfinite().all()
    whole = attacked(preset("iga", iterations=30, patience=30), out)
    assert not whole.diagnostics["stopped_early"].any()
    assert "stopped_early" not in attacked(preset("iga", iterations=3, patience=0), out).diagnostics


@pytest.mark.parametrize("init", ["normal", "uniform", "patch"])
def test_starts_are_what_they_are_called(data: Data, init: str) -> None:
    out = exposed(data, LENET)
    start = attacked(preset("cpl", iterations=1, lr=1e-9, clamp_pixels=False, init=init), out).images
    quarters = start.unflatten(-1, (2, 4)).unflatten(-3, (2, 4))
    same = torch.allclose(quarters[..., 0, :, 0, :], quarters[..., 1, :, 1, :], atol=1e-6)
    assert same == (init == "patch")
    assert bool((start < -1e-6).any()) == (init == "normal")


class TestAdaptive:
    def test_noise_before_the_bottleneck_is_seen_through(self, data: Data) -> None:
        """Dropping what the noise reaches recovers more than matching it (Scheliga et al., arXiv 2309.04515)."""
        model = MLP(width=128, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)
        out = exposed(data, model, PRECODE)
        plain, adaptive = (
            score(attacked(preset("iga", iterations=300, match=match), out), out.truth, data.domain, "precode", 0.6)[0]
            for match in ("all", "deterministic_layers")
        )
        assert adaptive["ssim"] >= plain["ssim"]  # type: ignore[operator]

    def test_a_model_without_noise_is_refused(self, data: Data) -> None:
        model = exposed(data, SMLP).known.model
        assert model is not None
        for remedy, changes in {
            "match=all": {"match": "deterministic_layers"},
            "noise_samples=1": {"noise_samples": 2},
            "noise=optimised: the model draws no noise; take attack.noise=fresh": {"noise": "optimised"},
        }.items():
            assert remedy in (preset("iga", **changes).fits(model, data.domain, None) or "")

    def test_masks_are_not_optimised_for_they_have_no_derivative(self, data: Data) -> None:
        model = exposed(data, replace(SMLP, dropout=0.3)).known.model
        assert "masks" in (preset("iga", noise="optimised").fits(model, data.domain, None) or "")
        assert preset("iga").fits(model, data.domain, None) is None

    def test_noise_can_be_optimised_with_the_images(self, data: Data) -> None:
        out = exposed(data, SMLP, PRECODE)
        short, long = (
            attacked(preset("iga", iterations=n, noise="optimised"), out).diagnostics["gradient_distance"]
            for n in (1, 200)
        )
        assert (long < short).all()

    def test_optimised_noise_is_not_sampled(self) -> None:
        with pytest.raises(UserError, match="noise=fresh"):
            preset("iga", noise="optimised", noise_samples=2)

    def test_several_samples_of_noise_hold_the_objective_steadier(self, data: Data) -> None:
        """At a point that stands still, for the least possible step, the objective moves with the noise alone."""
        out = exposed(data, SMLP, PRECODE)
        one, many = (
            attacked(preset("iga", iterations=40, lr=1e-9, noise_samples=n, clamp_pixels=False), out)
            .curve["objective"]
            .std(1)
            for n in (1, 8)
        )
        assert (many < one / 2).all()

    def test_what_pruning_left_is_matched_exactly_by_the_truth(self, data: Data) -> None:
        pruned = Stack({"gradient_pruning": GradientPruning(fraction=0.7, keep="rest", scope="global")})
        out = exposed(data, LENET, pruned)
        iga = preset("cpl", iterations=150, lr=0.05)
        every, kept = (
            attacked(replace(iga, only_nonzero=k), out).diagnostics["gradient_distance"] for k in (False, True)
        )
        assert (kept < every).all()

    def test_what_soteria_hides_from_who_matches_all_it_does_not_hide_from_who_matches_the_rest(
        self, data: Data
    ) -> None:
        sigmoid = replace(LENET, activation="sigmoid", pooling="stride", kernel=5, width=12)
        out = exposed(data, sigmoid, Stack({"soteria": Soteria(fraction=0.6, layer=None)}))
        iga = preset("iga", iterations=600, lr=0.05)
        every, rest = (
            score(attacked(replace(iga, only_nonzero=k), out), out.truth, data.domain, "precode", 0.6)[0]["ssim"]
            for k in (False, True)
        )
        assert every < 0.5 < 0.8 < rest  # type: ignore[operator]

    def test_the_record_says_so(self) -> None:
        assert not preset("iga").threat.adaptive
        adapted = {
            "match": "deterministic_layers",
            "only_nonzero": True,
            "noise": "optimised",
            "noise_samples": 2,
            "loss": "victim",
        }
        for name, value in adapted.items():
            assert preset("iga", **{name: value}).threat.adaptive

    def test_the_victims_own_loss_can_be_matched(self, data: Data) -> None:
        out = exposed(data, SMLP, PRECODE)
        found = attacked(preset("iga", iterations=3, loss="victim"), out)
        assert found.images.isfinite().all()


def test_what_clipping_hides_from_squares_it_does_not_hide_from_a_cosine(data: Data) -> None:
    clipped = Stack({"central_dp": CentralDp(
        max_update_norm=0.1, epsilon=None, noise_multiplier=0.0, delta=1e-5, accountant="rdp", amplification=True,
    )})  # fmt: skip
    out = exposed(data, SMLP, clipped)
    for attack, recovered in ((preset("idlg", iterations=60), 0), (preset("iga", iterations=1500), 1)):
        plain, hidden = (attacked(attack, seen) for seen in (exposed(data, SMLP), out))
        assert score(plain, out.truth, data.domain, None, 0.6).metrics["recovered"] == 1
        assert score(hidden, out.truth, data.domain, None, 0.6).metrics["recovered"] == recovered


def test_labels_are_granted_as_copies(data: Data) -> None:
    out = exposed(data, SMLP)
    assert torch.equal(out.known.labels, out.truth.labels)
    assert out.known.labels.data_ptr() != out.truth.labels.data_ptr()
    assert fedavg().views()[0].grants == fedavg(labels_known=True).views()[0].grants - {"labels"}


def test_the_statistics_of_the_batch_give_away_what_noise_on_the_gradient_hides(data: Data) -> None:
    noisy = Stack({"noisy_gradients": NoisyGradients(sigma=0.3, distribution="gaussian")})
    out = exposed(data, replace(LENET, norm="batch", width=16), noisy, victims=20)
    plain, pulled = (attacked(preset("iga", iterations=600, lr=0.05, statistics_weight=w), out) for w in (0.0, 1.0))
    before, after = (score(found, out.truth, data.domain, None, 0.6).metrics["mse"] for found in (plain, pulled))
    assert after < 0.75 * before


def test_statistics_that_are_not_there_are_refused_and_those_of_no_data_are_told(data: Data) -> None:
    attack = preset("iga", statistics_weight=0.5)
    plain, normed = exposed(data, LENET), exposed(data, replace(LENET, norm="batch"))
    assert plain.known.model is not None
    assert plain.known.domain is not None
    reason = attack.fits(plain.known.model, plain.known.domain, None)
    assert reason is not None
    assert reason.startswith("attack.statistics_weight=0.5: no layer of the model keeps batch statistics; take 0")
    assert normed.known.model is not None
    assert not attack.warnings(normed.known)
    [line] = attack.warnings(normed.known.having(model=normed.known.model.eval()))
    assert "take fl_setting.capture.mode=train, or a later round" in line
    assert not preset("iga").warnings(normed.known)


@pytest.mark.parametrize(
    ("weight", "needs"), [("statistics_weight", "model=resnet18"), ("prior_weight", "dataset.prior_size=50")]
)
def test_a_weight_of_zero_leaves_a_run_what_it_was(weight: str, needs: str) -> None:
    with searching(None):
        plain, weighted = (
            build(compose(["attack=iga", "fl_setting.labels_known=true", needs, *more]))
            for more in ([], [f"attack.{weight}=1"])
        )
    without = {k: v for k, v in plain.config["attack"].items() if k != weight}
    assert signed({**plain.config, "attack": without}, plain.parts) == plain.signature != weighted.signature
