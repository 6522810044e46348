"""Copies of OmegaConf's nodes: what ``copy.deepcopy`` makes, without its detours; planning makes them by the hundred
thousand.
"""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, Node, ValueNode

T = TypeVar("T", bound=Node)


def copied(node: T) -> T:
    """A copy that shares no node with the original; values themselves are shared, as OmegaConf shares them."""
    made: T = _copied(node, node.__dict__["_parent"])
    return made


def _copied(node: Any, parent: Any) -> Any:
    if not isinstance(node, DictConfig | ListConfig | ValueNode):  # a union, which holds a node of its own
        made = deepcopy(node)
        made.__dict__["_parent"] = parent
        return made
    made = _alike(node)
    own = made.__dict__
    metadata = own["_metadata"] = _alike(own["_metadata"])
    if metadata.flags is not None:
        metadata.flags = dict(metadata.flags)
    kept = metadata.resolver_cache
    metadata.resolver_cache = deepcopy(kept) if kept else defaultdict(dict)
    own["_flags_cache"], own["_parent"] = None, parent
    content = own.get("_content")
    if isinstance(content, dict):
        own["_content"] = {key: _copied(inner, made) for key, inner in content.items()}
    elif isinstance(content, list):
        own["_content"] = [_copied(inner, made) for inner in content]
    return made


def _alike(thing: Any) -> Any:
    """Another of the kind, with the same attributes."""
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__)
    return made
