"""Validation of a session's settings.

Invariant: settings that reach the log are whole and in range, so that no fold ever meets another.
"""

from dataclasses import replace
from typing import Final

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.events import SessionConfig
from pagekeeper.core.policies import chosen_policy

MODEL_LENGTH_MAX: Final = 128
TURNS_MAX: Final = 1_000
L0_TOKENS_MIN: Final = 512
L0_TOKENS_MAX: Final = 2_000_000
FAULTS_MAX: Final = 100

RANGES: Final = {
    "max_l0_tokens": (L0_TOKENS_MIN, L0_TOKENS_MAX),
    "max_faults_per_turn": (0, FAULTS_MAX),
    "max_fault_tokens_per_turn": (0, L0_TOKENS_MAX),
    "pin_last_turns": (0, TURNS_MAX),
    "fault_protection_turns": (0, TURNS_MAX),
    "eviction_cooldown_turns": (0, TURNS_MAX),
}


def with_reserve(config: SessionConfig) -> SessionConfig:
    """The settings of a new session that names no reserve: the default one, at most half of a small prompt."""
    return replace(config, reserved_tokens=min(config.reserved_tokens, config.max_l0_tokens // 2))


def checked(config: SessionConfig) -> SessionConfig:
    """The settings themselves. Raises InvalidField."""
    for name, (low, high) in RANGES.items():
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
    chosen_policy(config.eviction_policy)
    if len(config.model) > MODEL_LENGTH_MAX:
        raise InvalidField("config.model", f"must have at most {MODEL_LENGTH_MAX} characters, not {len(config.model)}")
    return config
