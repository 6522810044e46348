"""A dataset names its keys as ``dataset``'s; where it is the adversary's own, they are ``prior``'s."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from privsweep.interface.errors import UserError

_KEY = re.compile(r"(?<![\w./@-])dataset(?=([.=]))")  # not in a path


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
