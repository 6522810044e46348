"""Errors that a user can fix: one line each, shown without a traceback, with exit code 2. And the end of time."""

from privsweep.interface.printable import printable


class UserError(Exception):
    """The request cannot be carried out as it stands.

    Every message is one line that names the key, the value and the remedy, for example
    ``model=vgg16: halves the image 5 times, so dataset=digits (8x8) is too small; choose one of 32x32 or more``.
    Several complaints are several arguments. What a file name or a value brings along breaks no line.
    """

    def __init__(self, *messages: str):
        super().__init__(*map(printable, messages))

    def __str__(self) -> str:
        return "\n".join(self.args)


class AbsentError(UserError):
    """A dataset that is not there and cannot be had."""


class TimeLimit(BaseException):
    """The job's time is up and it will not be queued again.

    It may be raised anywhere in a run, so it is no ``Exception``: nobody shall take it for a failure of their own.
    """


class NotGrantedError(AttributeError):
    """An attack read what it did not name among its needs, or what the view does not grant."""
