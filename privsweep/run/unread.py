"""Values typed for what an adversary sees that the attack of a run does not look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override

from privsweep.interface.component import marked, without

if TYPE_CHECKING:  # help and refusals need no PyTorch
    from privsweep.interface.roles import Setting
    from privsweep.run.run_spec import RunSpec


def unread(specs: Iterable[RunSpec], typed: Sequence[Override]) -> list[str]:
    """In words, a line for what was typed of a setting, and goes into other views of it alone than an attack's."""
    lines = {}
    for override in typed:
        group, _, rest = override.get_key_element().lstrip("+").partition(".")
        if group == "fl_setting" and rest:
            lines[str(override.input_line)] = rest.partition(".")[0]
    where: dict[str, dict[str, None]] = {}
    asked: dict[tuple[str, str, str], bool] = {}
    for spec in specs:
        setting, attack = (str(spec.choices.get(group)) for group in ("fl_setting", "attack"))
        for line, field in lines.items():
            if (key := (setting, attack, field)) not in asked:
                asked[key] = _unread(spec, field)
            if asked[key]:
                where.setdefault(line, {})[f"attack={attack}"] = None
    return [f"{line}: not used where {', '.join(attacks)}" for line, attacks in where.items()]


def _unread(spec: RunSpec, field: str) -> bool:
    """Whether a field of the setting goes into some of its views, and not into the attack's.

    Of a setting of the user's own nothing is known, for its views may be made of what it computes from its fields.
    """
    from privsweep.run.declared import is_ours
    from privsweep.run.run_spec import view_of

    if not is_ours(spec.fl_setting) or field not in marked(spec.fl_setting, "training"):
        return False
    mark: Any = object()
    setting = without(spec.fl_setting, frozenset({field}))
    vars(setting)[field] = mark
    own = view_of(setting, spec.attack)
    return any(_holds(view, mark, setting) for view in setting.views()) and not _holds(own, mark, setting)


def _holds(made: Any, mark: object, setting: Setting) -> bool:
    """Whether a value is somewhere in a view, other than in the setting that it looks at."""
    if made is mark:
        return True
    if made is setting or not is_dataclass(made):
        return False
    return any(_holds(getattr(made, own.name), mark, setting) for own in fields(made))
