"""Whether the adversary's own data can stand in for the target's."""

from __future__ import annotations

from privsweep.game import Domain, Split


def unfit(public: Split | None, domain: Domain, least: int, key: str, remedy: str) -> str | None:
    """Why ``public`` cannot serve an attack that labels records as the target does, in one line, or None.

    ``key`` is the setting that asks for ``least`` records, ``remedy`` a value of it that would do.
    """
    if public is None:
        return "the attack needs data of its own; hold some out: dataset.prior_size=1000"
    if public.labels.dim() > 1:
        return (
            "dataset@prior: its images have several labels each, and the attack needs one; hold out records of the "
            "target's dataset instead: dataset.prior_size=1000"
        )
    if len(public) and int(public.labels.max()) >= domain.classes:
        return (
            f"dataset@prior: its labels go up to {int(public.labels.max())}, the target has {domain.classes} classes; "
            "hold out records of the target's dataset instead: dataset.prior_size=1000"
        )
    if len(public) < least:
        return f"{key}: needs {least} public records, there are {len(public)}; take {remedy}dataset.prior_size={least}"
    return None
