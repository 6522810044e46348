"""The files of a configuration, checked as they are read: what is broken is told by its name."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import ListConfig, OmegaConf

from privsweep.interface.errors import UserError

LARGEST = 2**20  # bytes; the largest of ours has a fiftieth of it
MOST = 100_000  # values, with what aliases repeat
_ALIAS = re.compile(r"(?:^|[\s\[{,])\*\w", re.MULTILINE)


class ConfigFiles(ConfigRepository):
    """Hydra's own, but for its exceptions."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """As Hydra does. Raises UserError for a file that is no configuration, or that adds to the search path."""
        file = self._file(config_path)
        try:
            if file is not None:
                _check(file)
            found = super().load_config(config_path)
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise _fault(config_path, file, f"is no YAML that is read here{line}: {error.problem}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise _fault(config_path, file, "is no text in UTF-8") from error
        except (OSError, ValueError) as error:
            raise _fault(config_path, file, f"cannot be read: {error}".splitlines()[0]) from error
        if found is None or file is None:
            return found
        if isinstance(found.config, ListConfig):
            raise _fault(config_path, file, "is a list")
        if OmegaConf.select(found.config, "hydra.searchpath", throw_on_resolution_failure=False):
            raise _fault(config_path, file, "sets hydra.searchpath; choices of your own come with --config-dir")
        return found

    def comment(self, config_path: str, key: str) -> str | None:
        """What a file says beside one of its keys; None where it says nothing."""
        file = self._file(config_path)
        text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
        found = re.search(rf"^{re.escape(key)}:[^#\n]*#\s*(.*)", text, re.MULTILINE)
        return found and found[1]

    def _file(self, config_path: str) -> Path | None:
        """The file behind a name, such as attack/dlg; None for what comes from elsewhere."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file":
            return None
        return Path(source.path) / f"{config_path.removesuffix('.yaml')}.yaml"


def _check(file: Path) -> None:
    """Raises ValueError for what would take for ever to read, or is no mapping."""
    if file.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    text = file.read_text(encoding="utf-8")
    if _ALIAS.search(text):
        _size(yaml.compose(text, yaml.SafeLoader), {}, ())
    content = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if content and not any(sign in line for line in content for sign in ":{}[]-") and content != ["null"]:
        raise ValueError("it has no keys with values")


def _size(node: yaml.Node | None, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node has once its aliases are replaced. Raises ValueError for too many, or a circle."""
    if id(node) in above:
        raise ValueError("an alias refers to what it is in")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_size(one, known, (*above, id(node))) for one in inner)
        if known[id(node)] > MOST:
            raise ValueError(f"its aliases repeat more than {MOST:,} values")
    return known[id(node)]


def _fault(config_path: str, file: Path | None, reason: str) -> UserError:
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    if group == "hydra":
        group, _, name = config_path.rpartition("/")
    choice = f"{group}={name}" if name else group
    return UserError(f"{choice}: {file} {reason}; a choice is a YAML file of keys with values: correct it")
