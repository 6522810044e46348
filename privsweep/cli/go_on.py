"""A command that goes on from a run, and one that spares what it does not need."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from privsweep.cli.cells import key_of
from privsweep.interface.keys import finding
from privsweep.interface.records import (
    Activations,
    Observation,
    Predictions,
    PropertyTrials,
    Release,
    Trials,
    Update,
    UpdateTrials,
)
from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, Store

AGAINST: dict[type[Observation], tuple[str, ...]] = {  # a defence of what is observed
    Update: ("defense=[noisy_gradients]",),
    Activations: ("defense=[single_noise]",),
    Predictions: ("defense=[dp_sgd]",),
    Release: ("defense=[dp_sgd]", "defense.dp_sgd.poisson=false"),
    Trials: ("defense=[dp_sgd]", "defense.dp_sgd.poisson=false"),
    UpdateTrials: ("defense=[noisy_gradients]",),
    PropertyTrials: ("defense=[noisy_gradients]",),
}
BROUGHT = "collaborative_inference"  # the setting that a defence of activations brings, unless another is named


def go_on(spec: RunSpec, record: Record, typed: Sequence[Override], config_dir: str | None) -> tuple[str, str]:
    """A command to type next, and what for.

    ``typed``: what the run was composed from; ``config_dir``: where else choices were found.
    """
    given = {key_of(o): str(o.input_line) for o in typed if key_of(o) not in ("plan", "force", "verbose")}
    metrics, attack, sweep = record["metrics"], spec.attack, False
    failed = metrics.get("recovered") == 0
    failed |= any((metrics.get(f"{area}_low") or 1.0) <= 0.5 for area in ("auc", "property_auc"))
    undefended = not spec.defense.defenses and attack.observes in AGAINST and _trains(spec)
    if attack.observes is None:
        given = {key: text for key, text in given.items() if key.partition(".")[0] != "attack"}
        why = "the same, attacked"
    elif (metrics.get("recovered") or 0) < 1 and (answers := _answers(spec)):
        given |= {f"attack.{name}": f"attack.{name}={value}" for name, value in answers.items()}
        why = "by an attacker who knows of the defence"
    elif failed and attack.observes is Update and getattr(attack, "restarts", 0) == 1:
        given["attack.restarts"] = "attack.restarts=4"
        why = "four random starts for each victim"
    elif undefended and not failed:
        against = AGAINST[attack.observes]  # type: ignore[index]
        given |= {text.partition("=")[0]: text for text in against}
        if attack.observes is Activations and spec.choices["fl_setting"] != BROUGHT:
            given.setdefault("fl_setting", f"fl_setting={spec.choices['fl_setting']}")
        why = "the same against a defence"
    else:
        sweep, given["seed"] = True, "seed=0,1,2"
        why = "over three seeds, with the spread"
    words = ["privsweep", *(["-m"] if sweep else []), *finding(config_dir)]
    return shlex.join([*words, *given.values()]), why


def _answers(spec: RunSpec) -> dict[str, str]:
    """What an attack that takes the defended gradient for the whole would set if it knew of the defence."""
    answers, own = dict(spec.defense.answered_by), spec.config.get("attack", {})
    given = spec.attack.threat.adaptive or own.get("unrolled")
    return {} if given or not answers.keys() <= own.keys() else answers


def _trains(spec: RunSpec) -> bool:
    """Whether there is a training to defend, and the defence goes with the model: no example of a private step may meet
    the others in a normalisation.
    """
    if spec.fl_setting.training_calls <= {"model"}:
        return False
    needs_dp_sgd = spec.attack.observes in (Predictions, Release, Trials)
    return not (needs_dp_sgd and getattr(spec.model, "norm", "none") == "batch")


def spared(spec: RunSpec) -> str | None:
    """The override that leaves out a training still to be done whose results the attack never sees, or None.

    Of an experiment the accuracy may be wanted, and a defence's noise may follow from the length of the training.
    """
    capture = getattr(spec.fl_setting, "capture", None)
    length = next((name for name in ("rounds", "epochs") if getattr(spec.fl_setting, name, 0)), None)
    if spec.attack.observes not in (Update, UpdateTrials, PropertyTrials):
        return None
    if capture is None or capture.round != 0 or length is None:
        return None
    if spec.choices.get("experiment") or spec.defense.defenses:
        return None
    store = Store(spec.session.output_dir)
    done = store.complete(spec.signature) or store.trained(spec.training_key(spec.session.resolve_device()))
    return None if done else f"fl_setting.{length}=0"
