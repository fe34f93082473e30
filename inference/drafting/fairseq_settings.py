"""The settings in a fairseq checkpoint as plain mappings, whichever way the trainer of its day kept them.

fairseq up to 0.10 keeps ``args``, one argparse.Namespace. Later it keeps ``cfg``: a dictionary whose parts are Namespaces or
dictionaries, or OmegaConf objects. OmegaConf is not needed to read those: a pickle that asks for one of its classes is given a
class of this module that only holds what the pickle says, so that no code of OmegaConf runs either.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from inference.weight_files import Allowed

_REFERENCE: Final = re.compile(r"\$\{([\w.]+)\}")  # OmegaConf's "${model.max_source_positions}"
_DEEPEST: Final = 16  # references to references
_UNDER_WAY: Final = object()


class _Held:
    """What a pickle gives an OmegaConf object: ``state`` is its ``__dict__``, in which values point back at their owner."""

    def __new__(cls, *_: object) -> _Held:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


class _Mapping(_Held): ...


class _Sequence(_Held): ...


class _Value(_Held): ...


class _Type(_Held):
    """A class that OmegaConf notes beside a value, to check later assignments: of no use here."""


_NODES: Final = ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "PathNode", "BytesNode")
_NOTED: Final = (
    *(f"typing.{name}" for name in ("Any", "Dict", "List", "Tuple")),
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool", "bytes", "type", "object")),
    *(f"omegaconf.base.{name}" for name in ("Metadata", "ContainerMetadata")),
)
ALLOWED: Final[tuple[Allowed, ...]] = (
    argparse.Namespace,
    defaultdict,  # in OmegaConf's notes on a value; its factory can only be one of the classes here
    (_Mapping, "omegaconf.dictconfig.DictConfig"),
    (_Sequence, "omegaconf.listconfig.ListConfig"),
    *((_Value, f"omegaconf.nodes.{name}") for name in _NODES),
    *((_Type, name) for name in _NOTED),
)


def settings_of(state: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's and the task's settings. Raises KeyError or TypeError saying what the checkpoint lacks."""
    if state.get("cfg") is None:
        everything = _mapping(state["args"], "args")
        return everything, everything
    whole = _mapping(state["cfg"], "cfg")
    parts = {name: _mapping(whole[name], f"cfg.{name}") for name in ("model", "task")}
    root = {**whole, **parts}
    return _resolved(parts["model"], root), _resolved(parts["task"], root)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    plain = _plain(value, {})
    if not isinstance(plain, dict):
        raise TypeError(f"{name} is a {type(value).__name__}, not settings")
    return plain


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """``done``: what an object became, by its id; each is converted once, however often a pickle refers to it."""
    if not isinstance(value, _Held | argparse.Namespace | dict | list | tuple):
        return value
    if id(value) not in done:
        done[id(value)] = _UNDER_WAY
        done[id(value)] = _converted(value, done)
    if done[id(value)] is _UNDER_WAY:
        raise TypeError("settings that hold themselves")
    return done[id(value)]


def _converted(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, _Held):
        return _plain(value.state.get("_val" if isinstance(value, _Value) else "_content"), done)
    if isinstance(value, list | tuple):
        return [_plain(part, done) for part in value]
    items = vars(value) if isinstance(value, argparse.Namespace) else value
    return {str(name): _plain(part, done) for name, part in items.items()}


def _resolved(settings: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    return {name: _follow(value, root) for name, value in settings.items()}


def _follow(value: Any, root: dict[str, Any]) -> Any:
    for _ in range(_DEEPEST):
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        value = root
        for name in match[1].split("."):
            value = value.get(name) if isinstance(value, dict) else None
    raise TypeError("settings that refer to themselves")
