"""Budgets of tokens: what a model's window has room for, and what of it is used.

Invariant of `TokenBudget`: used = charges made by hand + tokens of the residents that the budget follows. Residents are
asked for their tokens at each reading, so the budget cannot drift from the pages.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import AliasChoices, Field, PrivateAttr, computed_field, model_validator

from pagekeeper.memory.models.enums import Modality
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["MemoryABI", "TokenBudget"]


class MemoryABI(StrictModel):
    """The room that a model's window has for pages. All sizes are tokens."""

    max_context_tokens: int = 128_000
    reserved_tokens: int = 2_000
    tool_schema_tokens_reserved: int = 0

    @property
    def available_tokens(self) -> int:
        """max_context_tokens - reserved_tokens - tool_schema_tokens_reserved, at least 0."""
        return max(0, self.max_context_tokens - self.reserved_tokens - self.tool_schema_tokens_reserved)


class Residents(Protocol):
    """Pages that take tokens."""

    @property
    def tokens_used(self) -> int: ...

    def tokens_by_modality(self) -> Mapping[Modality, int]: ...


class TokenBudget(StrictModel):
    """All numbers are tokens. `reserved` is the room for all that is no page: system prompt, tools, the answer."""

    total_limit: int = Field(default=128_000, ge=0)
    reserved: int = Field(default=4_000, ge=0)
    charges: dict[Modality, int] = Field(
        default_factory=dict, validation_alias=AliasChoices("charges", "tokens_by_modality")
    )

    _followed: list[Residents] = PrivateAttr(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _used_is_charged(cls, fields: Any) -> Any:  # noqa: ANN401 - what pydantic was given
        """`used` without `charges` is charged as text; a budget's own JSON has both."""
        if isinstance(fields, dict) and fields.get("used") and not {"charges", "tokens_by_modality"} & fields.keys():
            return {**fields, "charges": {Modality.TEXT: fields["used"]}}
        return fields

    def follow(self, residents: Residents) -> None:
        """Count the tokens of `residents` from now on."""
        if not any(one is residents for one in self._followed):
            self._followed.append(residents)

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def tokens_by_modality(self) -> dict[Modality, int]:
        parts = [self.charges, *(residents.tokens_by_modality() for residents in self._followed)]
        return {modality: sum(part.get(modality, 0) for part in parts) for modality in Modality}

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def used(self) -> int:
        return sum(self.charges.values()) + sum(residents.tokens_used for residents in self._followed)

    @property
    def usable(self) -> int:
        """The room for pages: `total_limit` - `reserved`."""
        return max(0, self.total_limit - self.reserved)

    @property
    def available(self) -> int:
        return max(0, self.usable - self.used)

    @property
    def utilization(self) -> float:
        """`used` / `usable`, from 0 to 1; 1 when nothing is usable."""
        return min(1.0, self.used / self.usable) if self.usable else 1.0

    def can_fit(self, tokens: int) -> bool:
        return tokens <= self.available

    def add(self, tokens: int, modality: Modality) -> bool:
        """Charge `tokens` by hand. False when they do not fit; then nothing is charged."""
        if not self.can_fit(tokens):
            return False
        self.charges[modality] = self.charges.get(modality, 0) + tokens
        return True

    def remove(self, tokens: int, modality: Modality) -> None:
        """Take back a charge by hand; the modality's charges stay at least 0."""
        self.charges[modality] = max(0, self.charges.get(modality, 0) - tokens)
