"""What came out, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from privsweep.interface.utility import FINAL

Record = Mapping[str, Any]
Metrics = Mapping[str, float | None]

# The metric that tells what kind of result it is.
IMAGES, MEMBERS, PROPERTY, SENTENCES = "recovered", "auc", "property_auc", "overlap"
CHANCE = "overlap_chance"  # the share of its words that another sentence has, too
_CHANCE = {MEMBERS: 0.5, PROPERTY: 0.5}
_NORM = "update_norm"  # of what was captured
_OF_NOISE = "gaussian_epsilon"
_RELEASED = "released model"  # what a budget covers where the adversary sees more
_ABOVE = 1.2  # times chance, an accuracy that seems to have been learnt
_NO_BETTER = 0.01  # for some accuracies are measured on some of the test images
UNTOLD = "gradient_distance"  # that of images where nobody knows the original
HEADLINES = {  # the metrics that a kind of result is told by
    IMAGES: ("ssim", "psnr", "mse", "label_accuracy", "diverged", "oracle_mse", "below_oracle"),
    MEMBERS: ("attack_accuracy", "auc", "tpr_at_1_fpr", "empirical_epsilon", "gaussian_epsilon"),
    PROPERTY: ("property_accuracy", "property_auc"),
    SENTENCES: ("overlap", "token_accuracy", "exact", "bleu"),
    UNTOLD: ("gradient_distance", "iterations_to_zero", "zero_share", "diverged"),
}


def headlines(metrics: Metrics) -> list[str]:
    """The metrics to show first; of a kind that is not known all that are no median and no end of an interval.

    What is told of noise alone is passed over where there is none.
    """
    for kind, names in HEADLINES.items():
        if kind in metrics:
            silent = {_OF_NOISE} if metrics.get(_OF_NOISE) is None else set()
            return [name for name in names if name in metrics.keys() - silent]
    return [name for name in metrics if not name.endswith(("_median", "_low", "_high"))]


def in_words(record: Record) -> str:
    """Of a complete record: what the attack got, and what the model is worth."""
    metrics = record["metrics"]
    if not metrics:
        got = "nothing was attacked"
    elif IMAGES in metrics:
        got = _images(metrics, record)
    elif MEMBERS in metrics:
        got = _members(metrics) + _beside_budgets(metrics, record.get("privacy") or {})
    elif PROPERTY in metrics:
        got = _told("updates with the property", PROPERTY, metrics)
    elif SENTENCES in metrics:
        got = _sentences(metrics)
    elif UNTOLD in metrics:
        got = f"no original to compare with; gradient distance at the end {number(metrics[UNTOLD])} (mean)"
    else:
        got = _others(metrics)
    norm = metrics.get(_NORM, 1.0)
    if norm is None:  # a perfect defence, were it one
        got += "; not all that was sent is finite, and what is not tells nothing"
    elif norm == 0:  # of a network that is sure of the images, or of a defence that leaves nothing
        got += "; all that was sent is exactly zero, which tells nothing"
    accuracy, final = (record["utility"].get(name) for name in ("test_accuracy", f"{FINAL}test_accuracy"))
    if accuracy is None:
        return got
    later = "" if final is None else f" when attacked, {percent(final)} at the end of training"
    told = [a for a in (accuracy, final) if a is not None]
    return f"{got}; test accuracy {percent(accuracy)}{later}{_by_one_class(told, record.get('sizes') or {})}"


def _by_one_class(accuracies: Sequence[float], sizes: Mapping[str, int]) -> str:
    """What naming the largest class alone has, where one of the accuracies is above chance and no better than that."""
    if "largest_class" not in sizes:  # an older record, or sentences
        return ""
    share, chance = sizes["largest_class"] / sizes["test"], 1 / sizes["classes"]
    if not any(_ABOVE * chance < accuracy <= share + _NO_BETTER for accuracy in accuracies):
        return ""
    return f", where naming the largest class alone has {percent(share)}"


def threat_in_words(threat: Mapping[str, Any]) -> str:
    """Of a record's ``threat_model``: who, when and with what access; and whether it works around the defence."""
    known = ", knows of the defence" if threat.get("adaptive") else ""
    return f"{threat['security']} {threat['position']}, {threat['time']} time, {threat['access']}{known}"


def _images(metrics: Metrics, record: Record) -> str:
    setting = record["config"].get("fl_setting") or {}
    victims, capture = setting.get("victims"), setting.get("capture") or {}
    captured = (
        record.get("choices", {}).get("fl_setting") == "captured"
    )  # how many images are behind one is in its file
    several = captured or capture.get("batch_size", 1) != 1
    what = "updates" if several else "images"
    recovered, diverged = (metrics.get(name) or 0.0 for name in (IMAGES, "diverged"))
    if diverged == 1:
        return f"every attack diverged ({_of(1.0, victims)} {what}): nothing was recovered"
    measure = "mean SSIM of their images" if several else "SSIM"  # one of them may be lost where the others are clear
    words = f"{_of(recovered, victims)} {what} recovered ({measure} above 0.9)"
    if recovered < 1 and metrics.get("ssim") is not None:
        words += f", mean SSIM {metrics['ssim']:.2f}"
    if metrics.get("below_oracle") is not None:
        words += f", {_of(metrics['below_oracle'] or 0.0, victims)} {what} nearer than any that was known before"
    words += f", {_of(diverged, victims)} {what} diverged" if diverged else ""
    early = metrics.get("stopped_early") or 0.0
    told = early and recovered < 1  # a weak attack makes a strong defence
    return words + (f", {_of(early, victims)} stopped early (attack.patience=0 lets them go on)" if told else "")


def _told(what: str, name: str, metrics: Metrics) -> str:
    area, low, high = (metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if area is None:
        return f"{what} not told from others: no AUC"
    told = low is not None and low > 0.5
    words = f"{what} {'told' if told else 'not told'} from others: AUC {area:.2f}"
    if low is not None and high is not None:
        words += f" [{low:.2f}, {high:.2f}]"
    return words if told else f"{words}, where 0.50 is chance"


def _members(metrics: Metrics) -> str:
    words = _told("members", MEMBERS, metrics)
    if metrics.get(MEMBERS) is None:
        return words
    caught = metrics.get("tpr_at_1_fpr")
    words += "" if caught is None else f"; {percent(caught)} caught at 1% false alarms"
    words += _undecided(metrics)
    apart, least = (metrics.get(f"held_out_auc{end}") for end in ("", "_low"))
    if apart is None or least is None or least <= 0.5:
        return words
    return f"{words}; but so are training images that it never saw: AUC {apart:.2f}"


def _undecided(metrics: Metrics) -> str:
    """Of scores that tell members, cut where they do not: by such an accuracy any defence looks good."""
    told, decided = (metrics.get(f"{name}_low") for name in (MEMBERS, "balanced_accuracy"))
    if told is None or decided is None or told <= 0.5 or decided > 0.5:
        return ""
    return f", but not by the attack's own threshold, whose accuracy is {percent(metrics['balanced_accuracy'])}"


def _beside_budgets(metrics: Metrics, privacy: Mapping[str, Mapping[str, Any]]) -> str:
    """What an attack shows of the least epsilon that is stated of what the adversary sees, where one is."""
    of_all = {
        name: budget.get("captured_epsilon" if budget.get("covers") == _RELEASED else "epsilon")
        for name, budget in privacy.items()
    }
    stated = {epsilon: name for name, epsilon in of_all.items() if epsilon is not None}
    shown, gaussian = metrics.get("empirical_epsilon"), metrics.get("gaussian_epsilon")
    if shown is None or not stated:
        return ""
    least = min(stated)
    if shown > least:
        return f"; this refutes the epsilon of {least:.3g} that {stated[least]} states: {shown:.3g} or more"
    if_noise = "" if gaussian is None else f" ({gaussian:.3g} of Gaussian noise)"
    return f"; an epsilon of {shown:.3g} is shown{if_noise}, of the {least:.3g} that {stated[least]} allows"


def _sentences(metrics: Metrics) -> str:
    words = f"{percent(metrics['overlap'])} of the words read"
    if (chance := metrics.get(CHANCE)) is not None:
        words += f" ({percent(chance)} of another sentence's: chance)"
    if metrics.get("exact_target") is None:
        return words + f", {percent(metrics.get('exact'))} of the sentences in full"
    sides = ", ".join(f"{percent(metrics[f'exact_{side}'])} of the {side}s" for side in ("source", "target"))
    return words + f", {percent(metrics.get('exact'))} of the pairs in full ({sides})"


def _others(metrics: Metrics) -> str:
    """Of a kind that is not known, or of images that nobody knows the originals of."""
    told = {name: metrics[name] for name in headlines(metrics)[:3]}
    unscored = ["no original to compare with"] if "diverged" in metrics else []
    if not metrics.get("diverged"):
        told.pop("diverged", None)
    words = ", ".join(f"{name} {number(value)}" for name, value in told.items())
    return "; ".join([*unscored, words] if words else unscored)


def _of(share: float, victims: Any) -> str:
    """Of the victims where their number is known."""
    return (
        f"{round(share * victims)} of {victims}" if isinstance(victims, int) and victims else f"{percent(share)} of the"
    )


def percent(share: float | None) -> str:
    return "N/A" if share is None else f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def number(value: float | str | None) -> str:
    return "N/A" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def sweep_in_words(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Of a sweep's combinations, with means, runs and complete runs each: how many are done, and which stand out.

    Where even the best is no better than chance, none does.
    """
    runs, done = (sum(int(row[name]) for row in rows) for name in ("runs", "complete"))
    words = [f"{done} of {runs} runs done"]
    for metric, what, best, worst, text in (
        (IMAGES, "recovered", "most recovered", "least", percent),
        (MEMBERS, "members told", "members told best", "worst", lambda area: f"AUC {area:.2f}"),
        (PROPERTY, "properties told", "properties told best", "worst", lambda area: f"AUC {area:.2f}"),
        (SENTENCES, "words read", "most words read", "least", percent),
    ):
        found = sorted((row for row in rows if _is_number(row.get(metric))), key=lambda row: row[metric])
        if not found:
            continue
        low, high = found[0][metric], found[-1][metric]
        chance = found[-1].get(CHANCE) if metric == SENTENCES else _CHANCE.get(metric)
        if chance is not None and text(min(high, chance)) == text(high):
            least = "" if text(low) == text(high) else f"{text(low)} to "
            words.append(f"{what.replace(' ', ' not ')}: {least}{text(high)}, where {text(chance)} is chance")
            continue
        most, least = (_names([row for row in found if row[metric] == end], keys) for end in (high, low))
        if len(found) > 1 and low == high:
            words.append(f"{what}: {text(low)}, all alike")
        elif len(found) > 1:
            words.append(f"{best}: {most}{text(high)}, {worst}: {least}{text(low)}")
        elif len(rows) > 1:
            words.append(f"{best}: {most}{text(high)}")
        else:
            words.append(f"{what}: {text(high)}")
    return "; ".join(words)


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _names(alike: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """The first of those that are alike, and how many more there are."""
    named = " ".join(f"{key}={alike[0][key]}" for key in keys if alike[0][key])
    more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
    return f"{named}{more}, " if named else ""
