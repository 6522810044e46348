"""Whether the adversary's own data can stand in for the target's."""

from __future__ import annotations

from privsweep.interface.data import Domain, ImageSet


def unfit(prior: ImageSet | None, domain: Domain, least: int, key: str, remedy: str) -> str | None:
    """Why ``prior`` cannot serve an attack that labels records as the target does, in one line, or None.

    ``key`` is the setting that asks for ``least`` records, ``remedy`` a value of it that would do.
    """
    if prior is None:
        return "the attack needs data of its own; hold some out: dataset.prior_size=1000"
    if reason := labelled_otherwise(prior, domain):
        return reason
    if len(prior) < least:
        return f"{key}: needs {least} public records, there are {len(prior)}; take {remedy}dataset.prior_size={least}"
    return None


def labelled_otherwise(prior: ImageSet, domain: Domain) -> str | None:
    """Why nobody can train the target's classifier on ``prior``, by the labels alone, or None."""
    if prior.labels.dim() > 1:
        return (
            "dataset@prior: its images have several labels each, and the attack needs one; hold out records of the "
            "target's dataset instead: dataset.prior_size=1000"
        )
    if len(prior) and int(prior.labels.max()) >= domain.classes:
        return (
            f"dataset@prior: its labels go up to {int(prior.labels.max())}, the target has {domain.classes} classes; "
            "hold out records of the target's dataset instead: dataset.prior_size=1000"
        )
    return None
