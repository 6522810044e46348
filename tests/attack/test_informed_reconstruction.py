"""The informed adversary's reconstruction, on models whose weights give the record away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from informed_world import CALLS, DOMAIN, attack, known, network, pictures, released
from tiny import Bench

from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prior": 100}, r"attack\.shadows=200: .* has 100; take attack\.shadows=100 or .*dataset\.prior_size=200"),
    ({"source_shadows": 400}, r"attack\.source_shadows=400: .* has 300; take attack\.source_shadows=300 or .*"),
    ({"adversarial": 0.01}, r"attack\.adversarial=0\.01: needs images of 24x24 or more; take attack\.adversarial=0"),
    ({"perceptual": "lpips"}, r"attack\.perceptual=lpips: needs images of 31x31 .* take attack\.perceptual=features"),
    ({"width": 10**8}, r"attack\.memory=1: training a .* takes (\d+) GiB; take attack\.memory=\1, .*"),
    ({"memory": 1e-6}, r"attack\.memory=1e-06: training a .* takes (\d.*e-\d+) GiB; take attack\.memory=\1, .*"),
    ({"memory": 1e-6, "reconstructor": "kernel"}, r"attack\.memory=1e-06: a kernel .* takes 0\.00\d+ GiB; .*"),
]


def guess(about: Knowledge, bench: Any = None, seen: Any = None, **changes: Any) -> Reconstruction:
    chosen, bench = attack(**changes), bench or Bench()
    prepared = chosen.prepare(about.only(chosen.prepares_from), bench, Rng(0))
    return chosen(seen or released(about)[0], about.only(chosen.needs), prepared, bench, Rng(0))


def error(found: Reconstruction, about: Knowledge) -> float:
    """Mean squared error of [0, 1] pixels."""
    return (DOMAIN.pixels(found.images[:, 0]) - released(about)[1]).square().mean().item()


def blind() -> float:
    """The same of one answer for all, the mean of the adversary's records."""
    return (pictures(300, "prior").pixels().mean(0) - pictures(20, "targets").pixels()).square().mean().item()


@pytest.mark.parametrize("changes", [{}, {"reconstructor": "transposed"}, {"perceptual": "features"}])
def test_the_record_is_read_from_the_weights(changes: dict[str, Any]) -> None:
    about = known()
    found = guess(about, **changes)
    assert found.images.shape == (20, 1, *DOMAIN.shape)
    assert error(found, about) < 0.1 * blind()
    assert not found.diverged.any()
    assert 0.5 < found.diagnostics["weights_distance"].mean() < 2


def test_noise_on_the_weights_hides_the_record() -> None:
    about = known(noise=10.0)
    assert error(guess(about), about) > 0.7 * blind()


def test_a_model_that_is_no_number_is_marked_and_spoils_no_other() -> None:
    about = known()
    seen, _ = released(about)
    seen.weights["layer.weight"][3] = torch.nan
    found = guess(about, seen=seen)
    assert found.diverged.nonzero().flatten().tolist() == [3]


def test_another_fixed_set_teaches_for_this_one() -> None:
    """Zero-shot, and with few shadows, against a reconstructor that has those few alone."""
    about = known()
    assert error(guess(about, shadows=0, source_shadows=200), about) < 0.2 * blind()
    few = error(guess(about, shadows=10), about)
    assert error(guess(about, shadows=10, source_shadows=200), about) < few


def test_without_any_shadow_the_answer_is_grey() -> None:
    found = guess(known(), shadows=0)
    assert torch.equal(DOMAIN.pixels(found.images), torch.full_like(found.images, 0.5))
    assert "training_error" not in found.diagnostics


def test_shadows_and_the_source_are_trained_once_for_all_runs(tmp_path: Path) -> None:
    """More shadows only add to those of an earlier run; runs with another number of shadows share the source."""
    about = known()

    def bench(sign: str) -> Workbench:
        return Workbench(torch.device("cpu"), Store(tmp_path), sign)

    CALLS.clear()
    guess(about, bench("a"), epochs=1, shadows=60)
    assert CALLS[:-1] == [50, 10]  # the last are the released models
    CALLS.clear()
    guess(about, bench("b"), epochs=1, shadows=80)
    assert CALLS[:-1] == [20]
    CALLS.clear()
    first = guess(about, bench("c"), epochs=1, shadows=0, source_shadows=60)
    tables = len(list((tmp_path / "rows").iterdir()))
    again = guess(about, bench("d"), epochs=1, shadows=0, source_shadows=60)
    guess(about, bench("e"), epochs=1, shadows=30, source_shadows=60)
    assert len(list((tmp_path / "rows").iterdir())) == tables == 3
    assert torch.equal(first.images, again.images)


def test_models_of_an_earlier_epoch_have_shadows_of_the_same_training(tmp_path: Path) -> None:
    found = []
    for released_after in (2, 1):
        about = known(released=released_after)
        bench = Workbench(torch.device("cpu"), Store(tmp_path), str(released_after))
        CALLS.clear()
        found.append(error(guess(about, bench, shadows=60), about))
        assert CALLS[:-2] == ([50, 10] if released_after == 2 else [])  # the last are the released models, twice
    assert max(found) < 0.3 * blind()


def test_what_cannot_be_done_is_refused_in_one_line() -> None:
    def reason(domain: Domain = DOMAIN, prior: int = 300, **changes: Any) -> str | None:
        return attack(**changes).fits(network(), domain, pictures(prior, "prior", side=domain.shape[1]))

    assert reason() is None
    assert reason(reconstructor="transposed") is None
    for changes, message in REFUSED:
        assert re.fullmatch(message, reason(**changes) or ""), reason(**changes)


def test_own_records_that_are_labelled_otherwise_are_refused() -> None:
    """Shadows train on them, as the target's classifier does on its own."""
    prior = pictures(300, "prior")
    for labels, message in ((prior.labels + 1, "go up to 3, the target has 3"), (prior.labels[:, None], "several")):
        assert message in (attack().fits(network(), DOMAIN, ImageSet(prior.images, labels)) or "")


def test_two_fixed_sets_and_the_shadows_need_records_of_their_own() -> None:
    with pytest.raises(UserError, match=r"attack\.source_shadows=280: .* beside another fixed set of 40; .*=260 or"):
        guess(known(), shadows=0, source_shadows=280)


def test_a_kernel_reads_the_record_from_few_shadows_better_than_a_network() -> None:
    about = known()
    found = guess(about, reconstructor="kernel", shadows=40)
    assert error(found, about) < 0.5 * error(guess(about, shadows=40), about)
    assert "training_error" not in found.diagnostics
    assert error(guess(about, reconstructor="kernel", shadows=2), about) < 2 * blind()
    hidden = known(noise=10.0)
    assert 0.7 * blind() < error(guess(hidden, reconstructor="kernel"), hidden) < 1.3 * blind()


def test_a_kernel_refuses_what_it_is_not_trained_for() -> None:
    def reason(**changes: Any) -> str:
        return attack(reconstructor="kernel", **changes).fits(network(), DOMAIN, pictures(300, "prior")) or ""

    assert reason() == ""
    for changes in ({"shadows": 0}, {"source_shadows": 10}, {"perceptual": "features"}):
        assert re.fullmatch(
            r"attack\.reconstructor=kernel: is solved for, .* attack\.reconstructor=mlp", reason(**changes)
        )
    assert reason(perceptual="features", perceptual_weight=0.0) == ""
    assert re.fullmatch(r"attack\.memory=1e-06: a kernel of 200 shadows takes .*", reason(memory=1e-6))
