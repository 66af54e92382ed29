"""A session's settings: defaults, changes, and what they must be.

Invariant: settings that reach the log are whole and in range, so that no fold ever meets another.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.eviction import eviction_policy
from pagekeeper.core.pages import KeyValue
from pagekeeper.runtime.codec import enum_numbers
from pagekeeper.v1 import session_pb2

MODEL_LENGTH_MAX: Final = 128
TURNS_MAX: Final = 1_000
L0_TOKENS_MIN: Final = 512
L0_TOKENS_MAX: Final = 2_000_000
FAULTS_MAX: Final = 100

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
_RANGES: Final = {
    "max_l0_tokens": (L0_TOKENS_MIN, L0_TOKENS_MAX),
    "max_faults_per_turn": (0, FAULTS_MAX),
    "max_fault_tokens_per_turn": (0, L0_TOKENS_MAX),
    "pin_last_turns": (0, TURNS_MAX),
    "fault_protection_turns": (0, TURNS_MAX),
    "eviction_cooldown_turns": (0, TURNS_MAX),
}


def opened_config(given: session_pb2.SessionConfig) -> ev.SessionConfig:
    """Settings of a new session; zeros take the defaults. Raises InvalidField."""
    config = _changed(ev.SessionConfig(), given)
    if not given.reserved_tokens:
        config = replace(config, reserved_tokens=min(config.reserved_tokens, config.max_l0_tokens // 2))
    return _checked(config)


def changed_config(before: ev.SessionConfig, given: session_pb2.SessionConfig) -> ev.SessionConfig:
    """Settings after a change; zeros keep what is set. Raises InvalidField."""
    return _checked(_changed(before, given))


def labels_of(given: Mapping[str, str]) -> tuple[KeyValue, ...]:
    """Labels as the log has them: sorted by key."""
    return tuple(KeyValue(key, given[key]) for key in sorted(given))


def _changed(before: ev.SessionConfig, given: session_pb2.SessionConfig) -> ev.SessionConfig:
    changes = {field.name: getattr(given, field.name) for field in fields(before) if getattr(given, field.name)}
    return replace(before, **{name: _VALUE_OF.get(name, _same)(value) for name, value in changes.items()})


def _same(value: Any) -> Any:  # noqa: ANN401 - a setting of any type
    return value


def _checked(config: ev.SessionConfig) -> ev.SessionConfig:
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InvalidField(f"config.{name}", f"must be {low:,} to {high:,}, not {value:,}")
    half = config.max_l0_tokens // 2
    if config.reserved_tokens > half:
        raise InvalidField(
            "config.reserved_tokens",
            f"must be at most half of max_l0_tokens, {half:,}, not {config.reserved_tokens:,}",
        )
    if not 0 < config.eviction_threshold <= 1:
        raise InvalidField(
            "config.eviction_threshold", f"must be above 0 and at most 1, not {config.eviction_threshold}"
        )
    if not 0 < config.target_utilization <= config.eviction_threshold:
        raise InvalidField(
            "config.target_utilization",
            f"must be above 0 and at most eviction_threshold, {config.eviction_threshold}, "
            f"not {config.target_utilization}",
        )
    eviction_policy(config.eviction_policy)
    if len(config.model) > MODEL_LENGTH_MAX:
        raise InvalidField("config.model", f"must have at most {MODEL_LENGTH_MAX} characters, not {len(config.model)}")
    return config
