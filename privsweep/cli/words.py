"""Words of a command that composes no configuration, and so does without Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence

from privsweep.interface.errors import UserError

_KEY = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)


def keys_in(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words that are no ``key=value``, such as a path with an equals sign in it, and the values of those that are.

    A value may stand in quotation marks, as privsweep takes one with a comma or a space. Raises UserError for a key
    without one, for an empty path would be the working folder.
    """
    found = [(word, _KEY.fullmatch(word)) for word in words]
    if empty := next((key[1] for _, key in found if key and not unquoted(key[2])), None):
        raise UserError(f"{empty}=: has no value; give one, or leave it out")
    return [word for word, key in found if not key], {key[1]: unquoted(key[2]) for _, key in found if key}


def unquoted(value: str) -> str:
    """Without the quotation marks around it, if there are any, and what is marked by a backslash in them as it is."""
    quote = value[:1]
    if len(value) < 2 or quote not in "'\"" or value[-1] != quote:
        return value
    return value[1:-1].replace(f"\\{quote}", quote).replace("\\\\", "\\")
