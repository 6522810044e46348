"""What compositions have in common, made once: planning a table composes the same files for every cell."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import replace
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from privsweep.run.config_files import ConfigFiles
from privsweep.run.copies import copied

MOST = 32  # compositions at once; a large one takes a megabyte

_FILES: dict[Hashable, tuple[Any, ConfigResult | None]] = {}
_COMPOSED: OrderedDict[Hashable, tuple[dict[str, Any], DictConfig]] = OrderedDict()


class KeptFiles(ConfigFiles):
    """Hydra's repository, checked; what has not changed since is not read again."""

    def __init__(self, config_search_path: ConfigSearchPath):
        self.asked: set[str] = set()  # files that were asked for, here and in copies
        super().__init__(config_search_path)

    def load_config(self, config_path: str) -> ConfigResult | None:
        self.asked.add(config_path)
        state = self.state(config_path)
        if state is None:
            return super().load_config(config_path)
        key = (config_path, *(part if isinstance(part, Hashable) else id(part) for part in state))
        if key not in _FILES:
            _FILES[key] = state, super().load_config(config_path)
        found = _FILES[key][1]
        return found and replace(found, config=copied(found.config), header=dict(found.header))  # type: ignore[type-var]

    def state(self, config_path: str) -> tuple[Any, ...] | None:
        """What changes when it does; None where nothing is found."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        scheme, name = (
            source.scheme(),
            config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml",
        )
        where = (source.provider, source.path)
        if scheme == "structured":  # registered in this process
            return *where, ConfigStore.instance()._load(name)
        if scheme != "file":  # an installed package's
            return where
        stat = os.stat(os.path.join(source.path, name))
        return *where, stat.st_mtime_ns, stat.st_size, stat.st_ino

    def composition(self, key: Hashable, compose: Callable[[], DictConfig]) -> DictConfig:
        """What ``compose`` makes of files, made again only where one of them changed."""
        states, kept = _COMPOSED.get(key, ({}, None))
        if kept is None or any(self.state(name) != state for name, state in states.items()):
            self.asked.clear()
            kept = compose()
            _COMPOSED[key] = {name: self.state(name) for name in self.asked}, kept
        _COMPOSED.move_to_end(key)
        while len(_COMPOSED) > MOST:
            _COMPOSED.popitem(last=False)
        return copied(kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptFiles:
        return copy(self)  # Hydra copies it to give the copy other sources
