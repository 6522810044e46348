"""Which numbers a run may come to, as far as that is known before it is made.

Metrics follow from what is seen; components of privsweep declare under ``reports`` what they add, and a component of
the user's own may. Where it does not, any name may be one of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from privsweep.interface.records import Activations, Predictions, PropertyTrials, Release, Trials, Update, UpdateTrials
from privsweep.interface.utility import FINAL
from privsweep.metric import names
from privsweep.run.declared import is_ours
from privsweep.run.run_spec import RunSpec
from privsweep.run.unset import has_key
from privsweep.run.with_data import reads_sentences

_SECONDS = frozenset(["import", "load", "train", "expose", "prepare", "attack", "measure", "total", "per_victim"])
_SIZES = frozenset(["train", "test", "prior", "all", "file", "published", "classes", "largest_class", "parameters",
                    "judged_train", "judged_test"])  # fmt: skip
_ANY = None  # in place of names: there may be any


def can_report(spec: RunSpec, name: str) -> bool:
    """Whether the run may have such a number: of its metrics, else of its utility, or with a dot of another part.

    A metric may have anything behind its name, such as ``_median``, or an answer of an attack that has several.
    """
    part, dot, rest = name.partition(".")
    if not dot:
        return _among(name, _metrics(spec)) or _utility(spec, name)
    match part:
        case "metrics":
            return _among(rest, _metrics(spec))
        case "utility":
            return _utility(spec, rest)
        case "seconds":
            added = _declared(spec.view) if spec.view else frozenset()
            return added is _ANY or rest in _SECONDS | added
        case "sizes":
            return rest in _SIZES
        case "privacy":
            return rest.partition(".")[0] in spec.defense.defenses
        case "config":
            return has_key(spec.config, rest.split("."))
    return part == "environment"


def nearest_number(name: str, specs: Iterable[RunSpec]) -> str:
    """What may have been meant, or what there is."""
    found = [(_metrics(spec) or frozenset(), _utilities(spec) or frozenset()) for spec in specs]
    metrics, utility = (frozenset().union(*each) for each in zip(*found, strict=True))
    parts = {"metrics": metrics, "utility": utility, "seconds": _SECONDS, "sizes": _SIZES}
    part = name.partition(".")[0]
    plain = [f"{part}.{n}" for n in parts[part]] if part in parts else [*(metrics | utility)]
    dotted = [f"{part}.{n}" for part, all_names in parts.items() for n in all_names]
    near = get_close_matches(name, plain, 1) or get_close_matches(name, dotted, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(plain))}"


def _metrics(spec: RunSpec) -> frozenset[str] | None:
    """Beginnings of their names."""
    if spec.view is None:
        return frozenset()
    attack, view = _declared(spec.attack), _declared(spec.view)
    if attack is _ANY or view is _ANY:
        return _ANY
    kinds = (names.RECONSTRUCTION, _of_images(spec)), (names.SENTENCES, _of_sentences(spec))
    reconstructed = frozenset[str]().union(*(of_kind for of_kind, possible in kinds if possible))
    of_guess = {
        Update: reconstructed,
        Activations: reconstructed,
        Release: names.RECONSTRUCTION | names.RELEASE,
        Predictions: names.MEMBERSHIP | names.AUDIT,
        Trials: names.MEMBERSHIP | names.AUDIT,
        UpdateTrials: names.MEMBERSHIP | names.AUDIT,
        PropertyTrials: names.PROPERTY,
    }
    return of_guess[spec.view.observation] | attack | view


def _utilities(spec: RunSpec) -> frozenset[str] | None:
    added = _declared(spec.fl_setting)
    return _ANY if added is _ANY else added | (names.UTILITY if _of_sentences(spec) else names.UTILITY_OF_IMAGES)


def _utility(spec: RunSpec, name: str) -> bool:
    return _among(name.removeprefix(FINAL), _utilities(spec))


def _of_images(spec: RunSpec) -> bool:
    """Whether the target's data may be images, as far as its attack says it."""
    return not (is_ours(spec.attack) and reads_sentences(spec))


def _of_sentences(spec: RunSpec) -> bool:
    """The same of sentences, which anybody can train on and few attacks read."""
    return spec.view is None or not is_ours(spec.attack) or reads_sentences(spec)


def _declared(part: Any) -> frozenset[str] | None:
    found: frozenset[str] | None = getattr(part, "reports", frozenset() if is_ours(part) else _ANY)
    return found


def _among(name: str, beginnings: frozenset[str] | None) -> bool:
    return beginnings is _ANY or any(name == known or name.startswith(f"{known}_") for known in beginnings)
