"""Hydra's configuration loader: wherever Hydra composes, also in jobs, choices bring what they need, and only checked
configurations pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ConfigDefault
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.resolvers import oc

from privsweep.interface.errors import UserError
from privsweep.run.companions import GROUPS, KEY, Brought, as_overrides, companions, keys_set, lines
from privsweep.run.kept_files import KeptFiles
from privsweep.run.overrides import check_overrides, parsed
from privsweep.run.settled import settle
from privsweep.run.unset import unset


class CheckedLoader(ConfigLoaderImpl):
    """Launchers carry it to their jobs, so that a job on a cluster checks what it composes there, too.

    ``defaults`` is conf/config.yaml: its keys, and where results go when the command line does not say otherwise.
    """

    repository: KeptFiles

    def __init__(self, config_search_path: ConfigSearchPath, defaults: Mapping[str, Any]):
        super().__init__(config_search_path)
        self.repository = KeptFiles(config_search_path)
        self.output_dir = defaults["output_dir"]
        self.keys = defaults.keys() - {"defaults", "hydra"}

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra does, with companions, under ``brought``; raises UserError for what could run code or write
        elsewhere.

        Hydra's own note of the overrides stays as typed, so that who composes from it again gets the same.
        """
        typed = parsed(overrides, self)
        check_overrides(typed, self.repository, self.keys, several=run_mode == RunMode.MULTIRUN)
        plain = [str(override.input_line) for override in typed]
        given, brought = list(plain), Brought()
        if config_name:  # --hydra-help composes no more than Hydra's own
            if run_mode == RunMode.MULTIRUN:  # a sweep's first run stands for all
                firsts = parsed([_first(override) for override in typed], self)
                left_out = unset(firsts, typed, self.stated)
                given = [line for o in firsts if (line := str(o.input_line)) not in left_out]
            brought = companions(typed if given == plain else parsed(given, self), self.stated)
            given += [override for values in brought.values() for override in as_overrides(values)]
        with without_environment():
            try:
                cfg = super().load_configuration(config_name, given, run_mode, from_shell, validate_sweep_overrides)
            except KeyError as error:
                raise UserError(f"hydra.job.env_copy={error.args[0]}: is not set here; set it first") from error
            except HydraException as error:
                for line in lines({choice: as_overrides(values) for choice, values in brought.items()}):
                    error.add_note(line)
                raise
            except (AttributeError, TypeError, ValueError, RecursionError) as error:  # of Hydra, for odd values
                if (stop := _interruption(error)) is not None:
                    raise stop from None
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise UserError(f"{' '.join(overrides)}: cannot be composed ({reason}); correct the values") from error
            if given != plain:
                cfg.hydra.overrides.task = [o.input_line for o in typed if not o.is_hydra_override()]
            settle(cfg, typed, self.output_dir if config_name else os.curdir)
            _note(cfg, brought)
            self._inner(cfg, typed)
        return cfg

    def _inner(self, cfg: DictConfig, overrides: Sequence[Override]) -> None:
        """An architecture within a component (``+model@attack.shadow=lenet``) stands in place of another.

        Of that nothing is left. It has no ``weights``, unless somebody gives it some, which is refused later.
        """
        typed = keys_set(overrides)
        for place, choice in cfg.hydra.runtime.choices.items():
            group, _, package = str(place).partition("@")
            node = OmegaConf.select(cfg, package) if group == "model" and package else None
            if not isinstance(node, DictConfig):
                continue
            stated = self.stated(group, str(choice))
            own = stated.keys() - {KEY, *(["weights"] if stated.get("weights") is None else [])}
            with open_dict(cfg):
                for key in [key for key in node if key not in own and f"{package}.{key!s}" not in typed]:
                    del node[key]

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra does, which sets values in what the choices made; what they made is kept."""
        typed = parsed(overrides, self)
        whole = partial(super()._load_configuration_impl, config_name)
        if config_name is None or any(o.is_hydra_override() or o.is_sweep_override() for o in typed):
            return whole(overrides, run_mode, from_shell, validate_sweep_overrides)
        chosen = [self.repository.group_exists(o.key_or_group) and not isinstance(o.value(), dict) for o in typed]
        choices = [str(o.input_line) for o, choice in zip(typed, chosen, strict=True) if choice]
        values = [o for o, choice in zip(typed, chosen, strict=True) if not choice]
        places = tuple((part.provider, part.path) for part in self.config_search_path.get_path())
        about = (run_mode, version.getbase(), JobRuntime.instance().get("name"), os.getcwd())
        cfg = self.repository.composition(
            (config_name, *choices, places, about), lambda: whole(choices, run_mode, from_shell)
        )
        self._apply_overrides_to_config(values, cfg)
        job, note = cfg.hydra.job, cfg.hydra.overrides
        note.task = [*note.task[: len(note.task) - len(choices)], *overrides]  # a file may have written there, too
        job.override_dirname = get_overrides_dirname(overrides=typed, **job.config.override_dirname)
        return cfg

    def stated(self, group: str, choice: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """What the file of a choice states, after those of the same group that it builds on; nothing without one."""
        try:
            found = self.repository.load_config(f"{group}/{choice}")
        except Exception as error:  # whatever is wrong with it, composing says it better
            if (stop := _interruption(error)) is not None:
                raise stop from None
            return {}
        if found is None or not isinstance(found.config, DictConfig):
            return {}
        stated: dict[str, Any] = {}
        for base in found.defaults_list or []:
            if isinstance(base, ConfigDefault) and not base.is_self() and base.path not in (*above, choice):
                stated |= self.stated(group, str(base.path), (*above, choice))
        return stated | dict(OmegaConf.to_container(found.config, resolve=False))  # type: ignore[arg-type]

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """A job's configuration, of what goes with its choices; its folder lies in that of the sweep, whose name tells
        when it began.
        """
        typed: Any = OmegaConf.to_container(master_config.hydra.overrides.task, resolve=False)
        left_out = unset(parsed(sweep_overrides), parsed(typed, self), self.stated)
        cfg = super().load_sweep_config(master_config, [line for line in sweep_overrides if line not in left_out])
        cfg.hydra.sweep.dir = master_config.hydra.sweep.dir
        return cfg


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """Ctrl-C, where OmegaConf, tidying up after it, failed with an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _first(override: Override) -> str:
    """A sweep over choices as its first choice; other overrides as they are."""
    if override.is_sweep_override() and override.key_or_group in (*GROUPS, "experiment"):
        return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
    return str(override.input_line)


def _note(cfg: DictConfig, brought: Brought) -> None:
    """What was brought stands in the configuration as a note, and no longer where files state it."""
    with open_dict(cfg):
        defenses = _node(cfg, "defense")
        for node in (*(_node(cfg, k) for k in (*GROUPS, "prior")), *(_node(defenses, k) for k in defenses)):
            for part in (node, *(_node(node, k) for k in node)):  # of a component, and of those within it
                part.pop(KEY, None)
        cfg.pop("brought", None)
        if brought:
            cfg.brought = brought


def _node(cfg: DictConfig, key: Any) -> DictConfig:
    """What stands there, and an empty node where that is no mapping."""
    missing = OmegaConf.is_interpolation(cfg, key) or OmegaConf.is_missing(cfg, key)
    found = None if missing else cfg.get(key)
    return found if isinstance(found, DictConfig) else OmegaConf.create()


@contextmanager
def without_environment() -> Iterator[None]:
    """Variables of the environment hold secrets, and configurations end up in records: they are not read."""
    OmegaConf.register_new_resolver("oc.env", _refuse_environment, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _refuse_environment(name: str, default: Any = None) -> NoReturn:
    raise UserError(f"${{oc.env:{name}}}: a configuration reads no environment; type the value, as in key=${name}")
