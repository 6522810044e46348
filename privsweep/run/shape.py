"""The shape of a composed configuration, whoever wrote its parts: what is built afterwards can rely on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown

COMPONENTS = ("dataset", "model", "fl_setting", "attack")
OPTIONAL = ("prior",)


def check_shape(config: Mapping[str, Any], keys: Collection[str]) -> None:
    """Raises UserError with everything that is missing, or is no mapping where there must be one.

    ``keys`` are those that conf/config.yaml states.
    """
    wrong = [f"{key}: is missing; an experiment must leave it" for key in keys if key not in config]
    for key in (*COMPONENTS, *OPTIONAL, "defense", "metrics", "table", "figure"):
        value = config.get(key)
        if value is None and key in COMPONENTS:
            wrong.append(f"{key}=null: must be chosen; privsweep --help lists the choices")
        elif not (isinstance(value, Mapping) or (value is None and key != "metrics")):
            wrong.append(f"{key}={shown(value)}: must be keys with values; {_remedy(key)}")
    only = config.get("only")
    if only is not None and not config.get("table"):
        wrong.append(f"only={shown(only)}: chooses columns of a table; add experiment=..., or leave it out")
    elif only is not None and not (isinstance(only, list) and only and all(isinstance(c, str) for c in only)):
        wrong.append(f"only={shown(only)}: must be a list of columns with one at least; write 'only=[a,b]'")
    if wrong:
        raise UserError(*wrong)


def _remedy(key: str) -> str:
    if key in ("table", "figure"):
        return f"correct the {key} in the experiment's file"
    if key == "metrics":
        return "set metrics.paper_scale and metrics.asr_threshold"
    return f"choose one: {key}=name, or defense=[a,b]" if key == "defense" else f"choose one: {key}=name"
