"""YAML files of the configuration, read once: planning a table composes the same ones for every cell."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

from privsweep.run.config_files import ConfigFiles

_KEPT: dict[tuple[Any, ...], ConfigResult | None] = {}
STAYS = ("file", "pkg")  # sources whose content is a file's; what is registered at run time is asked anew


class KeptFiles(ConfigFiles):
    """Hydra's repository, checked; a file that has not changed since is not parsed again."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in STAYS:
            return super().load_config(config_path)
        key = (source.provider, source.path, config_path, *_state(source.scheme(), source.path, config_path))
        if key not in _KEPT:
            _KEPT[key] = super().load_config(config_path)
        return deepcopy(_KEPT[key])  # a composition alters what it gets


def _state(scheme: str, folder: str, config_path: str) -> tuple[int, ...]:
    """What changes with the file; an installed package's do not."""
    if scheme != "file":
        return ()
    name = config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml"
    state = os.stat(os.path.join(folder, name))
    return state.st_mtime_ns, state.st_size, state.st_ino
