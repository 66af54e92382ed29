"""One change of one page, as the mutation log keeps it."""

from datetime import datetime
from uuid import uuid4

from pydantic import ConfigDict, Field

from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models.enums import Actor, MutationType, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["PageMutation"]


def _new_id() -> str:
    return uuid4().hex


class PageMutation(StrictModel):
    """Immutable. `cause` is one word, such as `eviction_pressure` or `page_fault`."""

    model_config = ConfigDict(frozen=True)

    mutation_id: str = Field(default_factory=_new_id)
    page_id: str
    timestamp: datetime = Field(default_factory=utc_now)
    turn: int = 0
    mutation_type: MutationType
    tier_before: StorageTier | None = None
    tier_after: StorageTier
    actor: Actor = Actor.SYSTEM
    cause: str | None = None
