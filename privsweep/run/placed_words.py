"""What components cannot know of their place in the configuration, put into the words of their errors.

A dataset names its keys as ``dataset``'s; where it is the adversary's own, they are ``prior``'s. None knows by which
name it was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from privsweep.interface.errors import UserError

_KEY = re.compile(r"(?<![\w./@-])dataset(?=([.=]))")  # not in a path
_GROUP = re.compile(r"(model|attack)(?=: )")


@contextmanager
def named_as(part: str) -> Iterator[None]:
    """Raises the UserErrors of ``part`` of the configuration with the keys that it has there."""
    try:
        yield
    except UserError as error:
        if part != "prior":
            raise
        own = (_KEY.sub(lambda m: "prior" if m[1] == "." else "dataset@prior", line) for line in error.args)
        raise type(error)(*own) from error


@contextmanager
def chosen_as(choices: Mapping[str, Any]) -> Iterator[None]:
    """Raises UserErrors that begin with the name of a group alone with its choice."""
    try:
        yield
    except UserError as error:
        own = [
            f"{m[1]}={choices.get(m[1])}{line[m.end() :]}" if (m := _GROUP.match(line)) else line for line in error.args
        ]
        raise type(error)(*own) from error
