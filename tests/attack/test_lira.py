"""Attacks that compare shadows with a record and without it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from membership_world import MODEL, SHADOWS, digits, guess, measured, reversed_order
from scipy.stats import norm
from tiny import Bench, central, fedavg

from privsweep.attack.lira import LiRA
from privsweep.attack.rmia import RMIA
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Recipe
from privsweep.interface.training import LocalSchedule, Optimizer
from privsweep.membership_inference.in_out import by_content
from privsweep.membership_inference.queries import MOST, changed
from privsweep.membership_inference.scores import confidence
from privsweep.membership_inference.shadow_attack import augmentation
from privsweep.model.resnet import ResNet
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.store.fingerprint import checksum_of


def exposed(setting: Any) -> Exposure:
    data = digits()
    system = setting.train(data, MODEL, Stack({}), Rng(0), Bench())
    out = setting.views()[1].expose(system, data, MODEL, Stack({}), Rng(0))
    return replace(out, known=out.known.having(prior=data.prior))


def lira(online: bool, **changes: Any) -> LiRA:
    return LiRA(**{**SHADOWS, "online": online, "queries": None, "estimate": "related", **changes})


def rmia(online: bool, **changes: Any) -> RMIA:
    return RMIA(**{**SHADOWS, "online": online, "queries": None, "gamma": 1.0, "a": None, **changes})


@pytest.mark.parametrize(
    "attack",
    [
        lira(True),
        lira(False),
        lira(True, estimate="record", shadows=12),
        lira(False, estimate="global"),
        rmia(True),
        rmia(False),
    ],
)
def test_a_model_that_remembers_is_attacked_and_an_untrained_one_is_not(
    attack: LiRA, overfitted: Exposure, untrained: Exposure
) -> None:
    found = measured(attack, overfitted)
    assert found["attack_accuracy_low"] > 0.7
    assert found["auc"] > 0.8
    chance = measured(attack, untrained)
    assert chance["attack_accuracy_low"] <= 0.5 <= chance["attack_accuracy_high"]


@pytest.mark.parametrize("attack", [lira(True, epochs=2), lira(False, epochs=2), rmia(True, epochs=2)])
def test_scores_do_not_depend_on_the_order_of_candidates(attack: LiRA, overfitted: Exposure) -> None:
    one, other = guess(attack, overfitted), guess(attack, reversed_order(overfitted))
    assert torch.allclose(one.scores, other.scores.flip(0), rtol=1e-3, atol=1e-2)
    assert (one.decisions == other.decisions.flip(0)).double().mean() > 0.99


def test_every_candidate_is_in_half_of_the_online_shadows(overfitted: Exposure) -> None:
    known, attack = overfitted.known, lira(True, epochs=1)
    given = known.only(attack.prepares_from)
    inside = attack.prepare(given, Bench(), Rng(0))["inside"]
    asked = inside[:, len(known.prior) :]
    assert asked.shape == (8, len(known.candidates))
    assert (asked.sum(0) == 4).all()
    assert (asked.sum(1) == len(known.candidates) // 2).all()
    assert len(asked.unique(dim=0)) == 8


def test_offline_shadows_see_no_candidate() -> None:
    assert "candidates" not in lira(False).prepares_from
    assert "candidates" in lira(True).prepares_from


def test_a_shadow_trains_on_as_many_records_as_the_target() -> None:
    def size(attack: LiRA, prior: int, asked: int, examples: int) -> int:
        recipe = Recipe("adam", 0.1, 0.0, 10, 8, epochs=1.0, examples=examples)
        return attack.assigned(prior, asked, recipe, Rng(0)).shape[1]

    assert size(lira(False), 1000, 0, 300) == 300
    assert size(lira(False), 1000, 0, 900) == 500
    assert size(lira(True), 1000, 400, 300) == 300
    assert size(lira(True), 1000, 400, 100) == 200
    assert size(lira(True, shadow_size=70), 1000, 400, 300) == 270


def test_shadows_of_far_fewer_records_than_the_targets_are_warned_of(overfitted: Exposure) -> None:
    known = overfitted.known
    assert lira(False).warnings(known) == []

    def warned(attack: LiRA, examples: int) -> list[str]:
        return attack.warnings(known.having(recipe=replace(known.recipe, examples=examples)))  # type: ignore[type-var]

    half = len(known.prior) // 2
    assert warned(lira(False), 2 * half) == []
    [line] = warned(lira(False), 10 * half)
    assert line.startswith(f"attack.shadows=8: train on {half:,} records each, the target on {10 * half:,}: ")
    assert f"take a dataset@prior of {20 * half:,} images, or more of this dataset for dataset.prior_size" in line
    asked = len(known.candidates) // 2
    [line] = warned(lira(True, shadow_size=1), 3 * asked)
    assert f"train on {asked + 1:,} records each" in line


def test_shadows_train_as_often_as_a_client_uses_its_examples() -> None:
    target = Knowledge(recipe=Recipe("sgd", 0.1, 0.9, 90, 8, epochs=30.0, examples=70))
    schedule = lira(False, momentum=None).schedule(target)
    assert schedule.optimizer == Optimizer("sgd", 0.1, 0.9)
    assert (schedule.epochs, schedule.batch_size) == (30, 8)
    assert lira(False, momentum=0.5).schedule(target).optimizer.momentum == 0.5
    assert lira(False, epochs=7, lr=0.5).schedule(target).epochs == 7


def schedule_of(known: Knowledge, **changes: Any) -> LocalSchedule:
    return lira(False, momentum=None, **changes).schedule(known)


def test_shadows_of_collaborative_inference_train_as_its_network_does(data: Data) -> None:
    """Else they fit their records more closely than the target, and their answers stand for no target's."""
    with searching(None):
        given = ["fl_setting=collaborative_inference", "fl_setting.augment=crop_flip", "dataset.prior_size=100"]
        spec = build(compose([*given, "attack=lira_offline"]))
    target = Knowledge(recipe=spec.fl_setting.recipe(data, Rng(0), spec.fl_setting.length()))  # type: ignore[attr-defined]
    chosen = ("weight_decay", "decay", "augment")
    assert tuple(getattr(target.recipe, name) for name in chosen) == (5e-4, "one_cycle", "crop_flip")
    rule = lira(False, momentum=None).schedule(target).optimizer
    assert rule == spec.fl_setting.rule()  # type: ignore[attr-defined]
    assert augmentation(target) == "crop_flip"
    setting = spec.fl_setting
    early = Knowledge(recipe=setting.recipe(data, Rng(0), setting.length() // 2))  # type: ignore[attr-defined]
    stopped = schedule_of(early)
    assert stopped.epochs == schedule_of(target).epochs // 2
    assert stopped.optimizer.rate(1.0) == pytest.approx(rule.rate(0.5), rel=0.2)
    assert schedule_of(early, epochs=7).optimizer.rate(1.0) == rule.rate(1.0) == 0
    assert augmentation(Knowledge()) == "none"


@pytest.mark.parametrize("shadows", [1, 3])
def test_online_shadows_come_in_pairs(shadows: int) -> None:
    with pytest.raises(UserError, match=f"attack.shadows={shadows}: .* take an even number"):
        lira(True, shadows=shadows)
    assert lira(False, shadows=3).shadows == 3


@pytest.mark.parametrize(("online", "enough"), [(True, 12), (False, 6)])
def test_a_records_own_variance_needs_more_than_a_handful_of_shadows(online: bool, enough: int) -> None:
    """From two in and two out it was noise, and the scores with it: an AUC of 0.82 where the pooled one gives 0.95."""
    few = enough - 2
    with pytest.raises(UserError, match=rf"attack\.shadows={few}: .* take attack\.estimate=related, or .*={enough} or"):
        lira(online, estimate="record", shadows=few)
    assert lira(online, estimate="record", shadows=enough).shadows == enough
    assert lira(online, shadows=2).estimate == "related"


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("estimate", ["global", "record"])
def test_the_papers_scores_are_of_every_records_own_gaussians(
    online: bool, estimate: str, overfitted: Exposure
) -> None:
    """Of equal counts, the pooled variance is the mean of the records' own."""
    attack = lira(online, estimate=estimate, epochs=2, shadows=12)
    known = overfitted.known
    prepared = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))
    found = attack(overfitted.seen, known, prepared, Bench(), Rng(0))  # type: ignore[arg-type]
    ours, inside = attack.on_candidates(known, prepared, Rng(0), 0)
    shadows, x = confidence(ours, known.candidates.labels), found.diagnostics["confidence"]

    def gaussian(which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.stack([shadows[of, k] for k, of in enumerate(which.T)], 1)
        own = values.var(0)
        return values.mean(0), (own if estimate == "record" else own.mean().expand_as(own)).sqrt()

    m0, s0 = gaussian(~inside)
    if not online:
        assert torch.allclose(found.scores, (x - m0) / s0)
        return
    expected = norm.logpdf(x, *gaussian(inside)) - norm.logpdf(x, m0, s0)
    assert torch.allclose(found.scores, torch.from_numpy(expected))
    assert torch.equal(found.decisions, found.scores > 0)


@pytest.mark.parametrize(
    ("online", "shadows", "epochs", "gain"),
    [(True, 2, None, 0.02), (False, 2, None, 0.06), (False, 8, None, 0.03), (True, 8, 10, 0.06)],
)
def test_more_is_found_where_records_are_weighed_against_each_other(
    online: bool, shadows: int, epochs: int | None, gain: float, overfitted: Exposure
) -> None:
    """With few shadows (one a side: AUC 0.98 to 0.95), none of a candidate, or shadows that trained less."""
    related, apart = (
        measured(lira(online, estimate=estimate, shadows=shadows, epochs=epochs), overfitted)["auc"]
        for estimate in ("related", "global")
    )
    assert related > apart + gain


@pytest.mark.parametrize("attack", [lira(True), lira(False), rmia(True), rmia(False)])
def test_more_versions_of_a_record_are_asked_about_and_counted_alike(attack: LiRA, overfitted: Exposure) -> None:
    known, asked = overfitted.known, []
    seen = overfitted.seen
    prepared = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))

    def watched(x: torch.Tensor) -> torch.Tensor:
        asked.append(x)
        return seen.ask(x)  # type: ignore[union-attr]

    def scored(count: int | None) -> Scores:
        asked.clear()
        return replace(attack, queries=count)(replace(seen, ask=watched), known, prepared, Bench(), Rng(0))  # type: ignore[arg-type, type-var]

    one = scored(1)
    assert torch.equal(one.scores, scored(None).scores), "its training changes no image"
    plain = len(asked)
    many = scored(18)
    assert len(asked) == plain + 17 * (plain + 1)
    x = known.domain.inputs_of(known.candidates)
    assert any(torch.equal(inputs.flip(-1), x) for inputs in asked)
    assert many.scores.isfinite().all()
    assert not torch.equal(many.scores, one.scores)


@pytest.mark.parametrize("online", [True, False])
def test_a_record_is_asked_about_mirrored_too_where_its_training_mirrored_some(online: bool) -> None:
    told = Recipe("sgd", 0.1, 0.9, 90, 8, epochs=30.0, examples=70, augment="crop_flip")
    assert lira(online).versions(Knowledge(recipe=told)) == range(2)
    assert lira(online, queries=18).versions(Knowledge(recipe=told)) == range(18)
    assert lira(online).versions(Knowledge(recipe=replace(told, augment="none"))) == range(1)


def test_versions_are_mirrored_and_shifted_by_a_pixel() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3) + 1
    all_of_them = torch.stack([changed(x, number) for number in range(MOST)])
    assert len(all_of_them.unique(dim=0)) == MOST == 18
    assert torch.equal(changed(x, 0), x)
    assert changed(x, 1)[0, 0, 0].tolist() == [3, 2, 1]
    assert changed(x, 2)[0, 0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]


def test_the_usual_probability_averages_in_and_out_or_makes_up_for_in() -> None:
    """Of two records: in and out, and out alone with the fitted a, a given one, and where none can be fitted."""
    p = torch.tensor([[0.9, 0.4], [0.5, 0.6], [0.5, 0.2]], dtype=torch.float64)
    inside = torch.tensor([[True, False], [False, False], [False, False]])
    fitted = rmia(False).usual(p, inside)
    a = 0.1 / 0.5
    assert fitted.tolist() == pytest.approx([0.7, (0.4 + a * 0.4 + 1 - a) / 2])
    assert rmia(False, a=0.5).usual(p, inside)[1] == pytest.approx((0.4 + 0.5 * 0.4 + 0.5) / 2)
    assert rmia(False).usual(p, inside & False)[1] == pytest.approx((0.4 + 0.3 * 0.4 + 0.7) / 2)


@pytest.mark.parametrize(
    "attack", [lira(True, epochs=2), lira(False, epochs=2), rmia(True, epochs=2), rmia(False, epochs=2)]
)
def test_a_shadow_that_diverged_is_left_out_and_too_many_are_refused(attack: LiRA, overfitted: Exposure) -> None:
    """It used to make every score NaN, and so an AUC of 0.5."""
    known = overfitted.known
    prepared = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))

    def scored(lost: int) -> Scores:
        spoilt = {
            n: t.clone().index_fill_(0, torch.arange(lost), torch.nan) if t.is_floating_point() else t
            for n, t in prepared.items()
        }
        return attack(overfitted.seen, known, spoilt, Bench(), Rng(0))  # type: ignore[arg-type]

    whole, some = scored(0), scored(2)
    assert some.scores.isfinite().all()
    assert (
        torch.corrcoef(torch.stack([whole.scores.argsort().argsort(), some.scores.argsort().argsort()]).double())[0, 1]
        > 0.8
    )
    assert (whole.diagnostics["shadows"] == 8).all()
    assert (some.diagnostics["shadows"] == 6).all()
    with pytest.raises(
        UserError, match=r"attack\.shadows=8: 5 of them diverged in training; take a smaller attack\.lr"
    ):
        scored(5)


@pytest.mark.parametrize("attack", [lira(True, shadows=2), lira(False, shadows=2), rmia(True, shadows=2)])
def test_half_of_the_shadows_leave_a_side_without_any_and_are_too_few(attack: LiRA, overfitted: Exposure) -> None:
    """LiRA's scores were all NaN, an AUC of 0.5; those of RMIA half of them, 0.62 for 0.99."""
    prepared = attack.prepare(overfitted.known.only(attack.prepares_from), Bench(), Rng(0))
    spoilt = {
        n: t.clone().index_fill_(0, torch.arange(1), torch.nan) if t.is_floating_point() else t
        for n, t in prepared.items()
    }
    with pytest.raises(UserError, match=r"attack\.shadows=2: 1 of them diverged in training"):
        attack(overfitted.seen, overfitted.known, spoilt, Bench(), Rng(0))  # type: ignore[arg-type]


def test_records_that_beat_as_many_are_ordered_by_likelihood() -> None:
    population = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    found = rmia(False, gamma=2.0).share(torch.tensor([0.1, 0.2, 1.5, 4.0, 5.0], dtype=torch.float64), population)
    assert (found.diff() > 0).all()
    assert (found * 4).floor().tolist() == [0, 0, 1, 3, 3]


def test_gamma_moves_no_records_rank() -> None:
    generator = Rng(0).generator()
    population = torch.rand(50, dtype=torch.float64, generator=generator).sort().values
    likelihood = 3 * torch.rand(200, dtype=torch.float64, generator=generator)
    orders = [rmia(False, gamma=gamma).share(likelihood, population).argsort() for gamma in (1.0, 2.0, 10.0)]
    assert all(torch.equal(order, likelihood.argsort()) for order in orders)


FEDERATED = {"rounds": 3, "local_epochs": 20, "lr": 0.005, "batch_size": 16}


def followed(**changes: Any) -> LiRA:
    """Whose shadows train as the target did, unless something else is asked for."""
    return lira(True, momentum=None, **changes)


def test_shadows_of_a_federation_are_trained_by_one() -> None:
    """One party fits its records more closely than the clients' mean does, and called nearly everybody an outsider."""
    out = exposed(fedavg(**FEDERATED))
    found = measured(followed(), out)
    assert found["attack_accuracy"] > 0.72
    assert found["attack_accuracy"] > measured(followed(epochs=60), out)["attack_accuracy"] + 0.08


def test_a_federated_shadow_is_what_the_setting_makes_of_its_records() -> None:
    setting, attack = fedavg(rounds=2, clients=2), followed(shadows=2, shadow_size=20)
    known = exposed(setting).known
    shadows = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))
    pool = known.prior.with_more(known.candidates.take(by_content(known.candidates)))
    index = attack.assigned(len(known.prior), len(known.candidates), known.recipe, Rng(0))
    records = pool.take(index[1])
    data = Data("own", records, records, known.domain)
    alone = setting.train(data, MODEL, Stack({}), Rng(0).child("shadow", 1), Bench()).snapshots[2]
    assert all(torch.equal(shadows[f"weight:{name}"][1], w) for name, w in alone.items())


def test_records_that_do_not_go_round_among_a_shadows_clients_are_refused() -> None:
    attack = followed(shadows=2, shadow_size=1)
    known = exposed(fedavg(clients=100, candidates=2)).known
    with pytest.raises(UserError, match=r"attack\.shadow_size: .* 2 records do not go round .* give attack\.epochs"):
        attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))


def test_what_a_federations_view_shows_makes_no_other_shadows() -> None:
    """Else the shadows would be trained anew for every number of victims."""
    known = [exposed(fedavg(**own)).known.recipe for own in ({}, {"victims": 3}, {"rounds": 1})]
    one, same, other = map(checksum_of, known)
    assert one == same != other


def test_a_shadow_with_a_batch_that_its_layers_refuse_is_refused_in_words() -> None:
    """Batch normalisation of a single image, whose map is a single pixel, ended in a traceback."""
    net = ResNet(blocks=(1, 1, 1, 1), width=2, stem="small", norm="batch", activation="relu", init="he")
    known, attack = exposed(central(epochs=0)).known.having(architecture=net), followed(shadow_size=67, batch_size=216)
    with pytest.raises(UserError, match=r"attack\.shadow_size: 217 records make a batch of 1, .* model\.norm=group"):
        attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0))
