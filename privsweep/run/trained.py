"""What a setting of the user's own has trained is looked at before it is kept."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from privsweep.interface.records import System

_NAMED = 3  # names of a network's values, in an error


def check_trained(system: System, assembled: nn.Module) -> None:
    """Raises TypeError where there are no weights by round, or others than the network has.

    Of several networks their shapes may have an axis more, the first. ``assembled``: the network, on any device.
    """
    if not isinstance(system, System) or not system.snapshots:
        told = "no snapshots" if isinstance(system, System) else type(system).__name__
        raise TypeError(f"the setting's train returned {told}; let it return a System with weights by round")
    wanted = {name: tuple(value.shape) for name, value in assembled.state_dict().items()}
    for done, weights in system.snapshots.items():
        given = {name: tuple(value.shape) for name, value in weights.items()}
        if given.keys() != wanted.keys():
            raise TypeError(
                f"the setting's train returned of round {done} {_some(given, wanted)}, the network has "
                f"{_some(wanted, given)}; let it return all of net.state_dict()"
            )
        for name, shape in given.items():
            if wanted[name] not in (shape, shape[1:]):
                raise TypeError(
                    f"the setting's train returned of round {done} {name} of shape {list(shape)}, the network has "
                    f"{list(wanted[name])}; let it return the values as they are in net.state_dict()"
                )


def _some(names: Mapping[str, object], others: Mapping[str, object]) -> str:
    """A few of the names, of those first that others lack."""
    ordered = sorted(names, key=lambda name: name in others)
    return ", ".join(ordered[:_NAMED]) + (", ..." if len(ordered) > _NAMED else "") or "nothing"
