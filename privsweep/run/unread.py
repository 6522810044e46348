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
    where: dict[str, dict[str, bool]] = {}  # by line and attack, whether none of its runs uses it
    asked: dict[tuple[str, str, frozenset[str], str, bool], bool] = {}
    for spec in specs:
        setting, attack = (str(spec.choices.get(group)) for group in ("fl_setting", "attack"))
        for line, field in lines.items():
            off = not getattr(spec.fl_setting, field, None)
            if (key := (setting, attack, spec.attack.needs, field, off)) not in asked:
                asked[key] = _unseen(spec, field) or (not off and _unasked(spec, field))
            if asked[key] or not off:
                told = where.setdefault(line, {})
                told[f"attack={attack}"] = told.get(f"attack={attack}", True) and asked[key]
    unused = {line: [attack for attack, told in attacks.items() if told] for line, attacks in where.items()}
    return [f"{line}: not used where {', '.join(attacks)}" for line, attacks in unused.items() if attacks]


def _unseen(spec: RunSpec, field: str) -> bool:
    """Whether a field of the setting goes into some of its views, and not into the attack's.

    Of a setting of the user's own nothing is known, for its views may be made of what it computes from its fields.
    """
    from privsweep.run.run_spec import view_of

    if not _of_views(spec, field):
        return False
    mark: Any = object()
    setting = _with(spec.fl_setting, field, mark)
    own = view_of(setting, spec.attack)
    return any(_holds(view, mark, setting) for view in setting.views()) and not _holds(own, mark, setting)


def _unasked(spec: RunSpec, field: str) -> bool:
    """Whether all that a field does, where it is on, is to tell what the attack does not ask to know."""
    value = getattr(spec.fl_setting, field, None)
    if not _of_views(spec, field) or not isinstance(value, bool | int):
        return False
    off = {view.observation: view.grants for view in _with(spec.fl_setting, field, type(value)(0)).views()}
    told = frozenset[str]().union(*(view.grants - off[view.observation] for view in spec.fl_setting.views()))
    known = spec.attack.needs & spec.view.grants if spec.view else frozenset[str]()
    return bool(told) and not told & known


def _of_views(spec: RunSpec, field: str) -> bool:
    from privsweep.run.declared import is_ours

    return is_ours(spec.fl_setting) and field in marked(spec.fl_setting, "training")


def _with(setting: Setting, field: str, value: Any) -> Setting:
    copy = without(setting, frozenset({field}))
    vars(copy)[field] = value
    return copy


def _holds(made: Any, mark: object, setting: Setting) -> bool:
    """Whether a value is somewhere in a view, other than in the setting that it looks at."""
    if made is mark:
        return True
    if made is setting or not is_dataclass(made):
        return False
    return any(_holds(getattr(made, own.name), mark, setting) for own in fields(made))
