"""A session's settings as a caller sends them: zeros take the defaults, or keep what is set."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.pages import KeyValue
from pagekeeper.core.session_settings import checked, with_reserve
from pagekeeper.runtime.codec import enum_numbers
from pagekeeper.v1 import session_pb2

_MODES: Final = {number: mode for mode, number in enum_numbers(ev.VMMode, session_pb2.VmMode.DESCRIPTOR).items()}
_LAYOUTS: Final = {
    number: layout for layout, number in enum_numbers(ev.PromptLayout, session_pb2.PromptLayout.DESCRIPTOR).items()
}
_DEMAND_PAGING: Final = {
    number: who for who, number in enum_numbers(ev.DemandPaging, session_pb2.DemandPaging.DESCRIPTOR).items()
}
_VALUE_OF: Final[Mapping[str, Callable[[Any], Any]]] = {
    "mode": _MODES.__getitem__,
    "layout": _LAYOUTS.__getitem__,
    "demand_paging": _DEMAND_PAGING.__getitem__,
}


def opened_config(given: session_pb2.SessionConfig) -> ev.SessionConfig:
    """Settings of a new session; zeros take the defaults. Raises InvalidField."""
    config = _changed(ev.SessionConfig(), given)
    if not given.reserved_tokens:
        config = with_reserve(config)
    return checked(config)


def changed_config(before: ev.SessionConfig, given: session_pb2.SessionConfig) -> ev.SessionConfig:
    """Settings after a change; zeros keep what is set. Raises InvalidField."""
    return checked(_changed(before, given))


def labels_of(given: Mapping[str, str]) -> tuple[KeyValue, ...]:
    """Labels as the log has them: sorted by key."""
    return tuple(KeyValue(key, given[key]) for key in sorted(given))


def _changed(before: ev.SessionConfig, given: session_pb2.SessionConfig) -> ev.SessionConfig:
    changes = {field.name: getattr(given, field.name) for field in fields(before) if getattr(given, field.name)}
    return replace(before, **{name: _VALUE_OF.get(name, _same)(value) for name, value in changes.items()})


def _same(value: Any) -> Any:  # noqa: ANN401 - a setting of any type
    return value
