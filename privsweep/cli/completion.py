"""Tab completion: Hydra's, which knows neither folders of choices, nor several at once, nor one's own folder."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion
from hydra._internal.utils import get_args
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.completion_plugin import CompletionPlugin

from privsweep.interface.errors import UserError
from privsweep.interface.keys import SCALES
from privsweep.run.checked_loader import CheckedLoader
from privsweep.run.overrides import SEVERAL, choices_in

_KEYS = ("experiment=", "dataset@prior=")  # which Hydra spells otherwise, or does not know


class _Choices(CompletionPlugin):
    """What a word can go on as. The loader, by its class, is privsweep's."""

    def _query(self, config_name: str | None, line: str) -> list[str]:
        try:
            with redirect_stderr(StringIO()):  # nobody waits for a complaint in the middle of a line
                return super()._query(config_name, line)
        except (UserError, SystemExit):
            return []

    def _query_config_groups(self, word: str, config_name: str | None, words: Sequence[str]) -> tuple[list[str], bool]:
        """The choices that begin with ``word``, and whether it cannot be anything else."""
        key, equals, value = word.partition("=")
        if not equals:
            found, exact = super()._query_config_groups(word, config_name, list(words))
            kept = [name for name in found if not name.startswith("experiment/")]
            return [*kept, *(name for name in _KEYS if name.startswith(word))], exact
        group = key.lstrip("+~").partition("@")[0]
        assert isinstance(self.config_loader, CheckedLoader)
        offered = SCALES if key == "scale" else choices_in(self.config_loader.repository, group)
        return [f"{key}={value}" for value in _going_on(value, offered, group == SEVERAL)], bool(offered)


def _going_on(value: str, offered: Sequence[str], several: bool) -> Iterator[str]:
    """What a value that is typed in part can go on as: after a comma, or in brackets, with one more choice."""
    before, comma, last = value.rpartition(",")
    if several and not comma and value.startswith("["):
        before, last = "[", value[1:]
    before += comma
    used = before.strip("[,").split(",")
    if several and before.startswith("[") and last in offered:
        yield from (f"{before}{last}]", f"{before}{last},")
        used.append(last)
    yield from (f"{before}{name}" for name in offered if name.startswith(last) and name not in used)


class _Bash(_Choices, BashCompletion):
    """For bash and zsh."""


class _Fish(_Choices, FishCompletion):
    """For fish."""


def plugins(loader: ConfigLoader) -> Mapping[str, list[CompletionPlugin]]:
    """By the name of a shell, as Hydra asks for them."""
    return {plugin.provides(): [plugin] for plugin in (_Bash(loader), _Fish(loader))}


def folder_of(args: Namespace) -> str | None:
    """The --config-dir of the line that is completed; of another command its own."""
    line = os.environ.get("COMP_LINE", "")
    if not any(word.startswith("query=") for word in args.overrides) or args.config_dir:
        return args.config_dir
    try:
        with redirect_stderr(StringIO()):
            typed: str | None = get_args(line.split()[1:]).config_dir
    except SystemExit:
        return None
    folder = os.path.expanduser(typed) if typed else ""
    return folder if os.path.isdir(folder) else None
