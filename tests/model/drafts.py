"""What random histories of a session are made of."""

from dataclasses import dataclass
from hashlib import sha256

from hypothesis import strategies as st

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.pages import (
    LinkKind,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.policies import POLICIES

importances = st.sampled_from([0.0, 0.25, 0.5, 1.0])
configs = st.builds(
    ev.SessionConfig,
    max_l0_tokens=st.integers(512, 2_000),
    reserved_tokens=st.integers(0, 200),
    eviction_threshold=st.sampled_from([0.75, 0.85, 1.0]),
    target_utilization=st.sampled_from([0.3, 0.5, 0.7]),
    max_faults_per_turn=st.integers(1, 6),
    max_fault_tokens_per_turn=st.integers(300, 4_000),
    pin_last_turns=st.integers(0, 3),
    fault_protection_turns=st.integers(0, 2),
    eviction_cooldown_turns=st.integers(0, 3),
    eviction_policy=st.sampled_from(list(POLICIES)),
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A page to map."""

    role: MessageRole
    size_tokens: int
    page_type: PageType = PageType.TRANSCRIPT
    trust: TrustClass = TrustClass.SYSTEM
    importance: float = 0.5
    pinned: bool = False


DRAFTS = [Draft(role, size) for role in MessageRole for size in (5, 60, 130, 250, 420, 900)] + [
    *[Draft(MessageRole.ASSISTANT, 90, page_type, importance=0.25) for page_type in PageType],
    *[Draft(MessageRole.TOOL, size, trust=TrustClass.TOOL, pinned=True) for size in (20, 110)],
    *[Draft(MessageRole.ASSISTANT, 180, importance=importance) for importance in (0.0, 0.25, 1.0)],
]
drafts = st.sampled_from(DRAFTS)


def stored(page_id: str, level: int, size_tokens: int) -> StoredRepresentation:
    data = f"{page_id} at level {level}: {size_tokens} tokens".encode()
    return StoredRepresentation(level, size_tokens, len(data), sha256(data).digest(), inline=data)


def full_tokens(mapped: ev.MappedPage, _: TrustClass) -> int:
    return mapped.full.size_tokens


def new_page(page_id: str, draft: Draft, *parent_ids: str, new_version: bool = False) -> decisions.NewPage:
    mapped = ev.MappedPage(
        page_id=page_id,
        version=0,
        modality=Modality.TEXT,
        page_type=draft.page_type,
        role=draft.role,
        trust=draft.trust,
        hint="",
        importance=draft.importance,
        pinned=draft.pinned,
        full=stored(page_id, 0, draft.size_tokens),
        links=tuple(PageLink(LinkKind.DERIVED_FROM, parent_id) for parent_id in parent_ids),
    )
    return decisions.NewPage(mapped, new_version=new_version)
