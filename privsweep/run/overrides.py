"""What is typed, checked before Hydra composes anything of it: one line for what Hydra would trip over."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from shlex import quote
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown

SEVERAL = "defense"  # the group of which several can be chosen
FURTHER = ("table", "figure", "prior")  # keys that conf/config.yaml does not state
USERS = "command-line"  # in Hydra's words, whose folder of choices it is
OWN = "one of your own comes with --config-dir=FOLDER"  # said where none is given
NOTES = ("hydra.overrides", "hydra.runtime", "hydra.job.override_dirname")  # Hydra writes them itself


def parsed(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """What each override sets, as Hydra understands it. Raises UserError."""
    made: list[Override] = []
    for text in overrides:
        try:
            known = _parsed(text)
            swept = loader is not None and any(o.is_sweep_override() for o in known)
            made += OverridesParser.create(loader).parse_overrides([text]) if swept else known  # it may list choices
        except (HydraException, ValueError, TypeError) as error:
            key = text.partition("=")[0].strip() or "key"
            if text.isidentifier():
                said = f"; or type privsweep --{text}" if text in ("help", "version") else ""
                raise UserError(f"{text}: has no value; write {text}=VALUE, as --help shows{said}") from error
            raise UserError(
                f"{text or repr(text)}: cannot be read; write {key}=value without blanks around =, and in quotes a "
                f"value with brackets, commas or quotes that are a part of it: {in_quotes(key, text)}"
            ) from error
    return made


def in_quotes(key: str, text: str) -> str:
    """How an override is typed whose value is to be taken as it stands."""
    value = text.partition("=")[2].strip() or "a value"
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + (found[2] and '\\"'), value)
    return quote(f'{key}="{escaped}"')


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Sequence[Override]:
    """Kept: planning asks for the same ones for every cell, and nobody changes them."""
    parser = OverridesParser.create()
    try:
        parsed: Sequence[Override] = parser.parse_overrides([text])
    except HydraException:
        if (quoted := _quoted(text)) is None:
            raise
        parsed = parser.parse_overrides([quoted])
    return parsed


def _quoted(text: str) -> str | None:
    """An override as Hydra reads it that has other characters than its grammar knows, such as those of a path.

    None where it is no single text: what opens, closes, separates or quotes is the user's to quote. An unquoted ~ is
    the home, as in a shell.
    """
    found = re.fullmatch(r"([\w@./+~-]+)=([^\s,\[\]{}()'\"\\]+(?: +[^\s,\[\]{}()'\"\\]+)*)", text)
    if found is None:
        return None
    key, value = found.groups()
    return f'{key}="{os.path.expanduser(value) if value.split("/")[0] == "~" else value}"'


def check_overrides(
    overrides: Sequence[Override], files: IConfigRepository, keys: Collection[str], several: bool
) -> None:
    """Raises UserError for what no run can have.

    ``keys`` are those of conf/config.yaml; ``several``: whether keys may take several values, as in a sweep.
    """
    for override in overrides:
        key, line = override.key_or_group, str(override.input_line)
        if not key.strip("~+"):
            raise UserError(f"{line}: names no key; write key=value")
        if key == "hydra.searchpath":
            raise UserError(f"{line}: choices of your own come with --config-dir=FOLDER alone; leave it out")
        if key == "config_dir":
            raise UserError(f"{line}: is a flag; write --config-dir=FOLDER")
        if key.startswith(NOTES):
            raise UserError(f"{line}: is Hydra's own note; leave it out")
        group = files.group_exists(key) if not override.is_delete() or "." not in key else False
        if override.is_delete():
            if (group or key in keys or key.partition(".")[0] == "hydra") and override.package is None:
                raise UserError(f"{line}: cannot be taken away; leave it out, or set {key} to something else")
        elif override.is_sweep_override():
            if not several:
                raise UserError(
                    f"{line}: has several values; to run all of them, add -m and quote it for the shell: "
                    f"privsweep -m '{line}'; a list is written '{key}=[a,b]'"
                )
        elif group:
            _check_choice(override, files)
        elif override.is_add() and override.package is None:
            top = key.partition(".")[0]
            if top not in {*keys, *FURTHER} and not files.group_exists(top):
                raise UserError(f"{line}: {top} is no key of privsweep; {nearest(top, keys)}")


def _check_choice(override: Override, files: IConfigRepository) -> None:
    """Raises UserError where a group is given something else than a name, or several names where it takes one."""
    group, value = str(override.get_key_element()).lstrip("+"), override.value()
    offered = partial(choices_in, files, override.key_or_group)
    if value is None:
        remedy = f"~{group} takes it away, or leave it out" if override.package else "leave it out"
        raise UserError(f"{group}=null: is no choice; {remedy}, or {other('', offered())}")
    if isinstance(value, dict):
        raise UserError(f"{group}={shown(value)}: takes the name of a choice; set single values as {group}.key=value")
    several = override.key_or_group == SEVERAL
    if isinstance(value, list) and not several:
        raise UserError(f"{group}={_listed(value)}: takes one choice; write {group}=name, or sweep with -m {group}=a,b")
    names: list[Any] = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or not name:
            raise no_choice(group, shown(name), offered())
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{group}={_listed(names)}: names {twice[0]} twice; name it once")


def choices_in(files: IConfigRepository, group: str) -> list[str]:
    """The choices of a group, those in its folders as zen/table1."""
    folders = files.get_group_options(group, ObjectType.GROUP)
    inner = [f"{folder}/{name}" for folder in folders for name in choices_in(files, f"{group}/{folder}")]
    return [*files.get_group_options(group), *inner]


def no_choice(group: str, choice: str, offered: Sequence[str]) -> UserError:
    """That a group has no such choice, and which it has."""
    return UserError(f"{group}={choice}: no such choice; {other(choice, offered)}")


def other(choice: str, offered: Sequence[str]) -> str:
    """What may have been meant by a choice that there is not, and what there is; of many folders, in the same one."""
    within = [name for name in offered if name.startswith(f"{choice}/")]
    if within:
        return f"choose one of: {', '.join(within)}"
    near = [name for name in offered if name.endswith(f"/{choice}")] or get_close_matches(choice, offered, 1)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    beside = [name for name in offered if name.rpartition("/")[0] == choice.rpartition("/")[0]]
    if not beside and any("/" in name for name in offered):
        return f"{hint}see privsweep --help for the choices"
    return f"{hint}{'choices' if hint else 'choose one of'}: {', '.join(beside or offered)}"


def nearest(key: str, keys: Collection[str]) -> str:
    """What may have been meant by a key that there is not."""
    hint = get_close_matches(key, keys, 1)
    return f"did you mean {hint[0]}?" if hint else "privsweep --cfg job lists the keys"


def _listed(values: Sequence[Any]) -> str:
    return f"[{','.join(map(shown, values))}]"
