"""Writing the page table: mapping pages, and changing what is known of them.

Invariants:
- Bytes are durable before or together with the mapping that names them.
- A request is carried out once; its repetition is answered from the state that it left.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.effects import Admitted, TurnStarted
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.lines import facts_of_mapped
from pagekeeper.core.pages import Extent, KeyValue, TrustClass, Version
from pagekeeper.core.session import Session
from pagekeeper.core.shrinking import pages_to_compress
from pagekeeper.page_table.drafts import Draft, content_bytes, drafts_of, hinted, new_pages, page_link
from pagekeeper.page_table.line_tokens import LineTokens, decided
from pagekeeper.page_table.outbox import Outbox
from pagekeeper.page_table.spilling import spill, to_spill
from pagekeeper.runtime.artifacts import ArtifactPort
from pagekeeper.runtime.codec import happenings_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.requests import request_of
from pagekeeper.runtime.sessions import Committed, Request, Sessions
from pagekeeper.runtime.tokens import Tokenizer
from pagekeeper.runtime.views import PAGE_TYPE_OF
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

TAIL_RECORDS_MAX: Final = 256
TAIL_BYTES_MAX: Final = 64 * 1024
"""The longest tail, in records and bytes, that a cold replica folds after a snapshot; a longer tail is written back."""
TAIL_RECORDS_SHARE: Final = 4
TAIL_BYTES_PER_PAGE: Final = 512
"""In a long session the tail may be longer: 1 record for every TAIL_RECORDS_SHARE pages, or TAIL_BYTES_PER_PAGE bytes a
page. A snapshot writes every page, so its cost per append does not grow with the session, and folding the tail costs a
cold replica less than reading the snapshot."""
TAIL_BYTES_LIMIT: Final = 4 * 1024 * 1024
"""Which does not go on for ever: the records that a snapshot replaces are moved as one object."""

TokenizerOf = Callable[[str], Tokenizer]
"""How to count for a model."""


class Mapping:
    def __init__(
        self, sessions: Sessions, tokenizer_of: TokenizerOf, artifacts: ArtifactPort, outbox: Outbox, pool: Pool
    ) -> None:
        self._sessions = sessions
        self._tokenizer_of = tokenizer_of
        self._artifacts = artifacts
        self._outbox = outbox
        self._pool = pool

    async def map_pages(self, caller: Caller, request: pb.AppendPagesRequest) -> pb.AppendPagesResponse:
        key = session_key(caller.tenant, request.session_id)
        done_once = request_of(request)
        drafts = drafts_of(request, await hinted(self._pool, caller.tenant, request))
        new = new_pages(drafts, await self._spill(caller, key, done_once, drafts))
        line_tokens = LineTokens(self._pool, caller.tenant, content_bytes(request))
        contents = {draft.mapped.full.digest: draft.content for draft in drafts}

        def decide(session: Session) -> ev.PagesMapped:
            decisions.writable(session, key.session, request.expected_revision)
            tokenizer = self._tokenizer_of(session.config.model)

            def count(mapped: ev.MappedPage, trust: TrustClass) -> int:
                return line_tokens.count(
                    tokenizer, (facts_of_mapped(mapped, trust), 0, contents[mapped.full.digest], "")
                )

            decided = decisions.map_pages(session, new, count)
            line_tokens.complete(tokenizer)
            return decided

        # A page that is appended by name may be one that was dropped, whose entry a cache may still have.
        touches = tuple(dict.fromkeys(draft.mapped.page_id for draft in drafts if draft.mapped.page_id))
        committed = await decided(partial(self._sessions.commit, key, done_once, decide, touches=touches))
        decisions.readable(committed.session, key.session)
        mapped = _mapped(committed, drafts)
        self._note_work(key, committed)
        return _appended(committed, mapped)

    async def link_pages(self, caller: Caller, request: pb.LinkPagesRequest) -> pb.LinkPagesResponse:
        key = session_key(caller.tenant, request.session_id)
        links = [page_link(f"links[{index}]", link) for index, link in enumerate(request.links)]

        def decide(session: Session) -> ev.PagesLinked | None:
            decisions.writable(session, key.session, request.expected_revision)
            return decisions.link(session, request.page_id, links)

        committed = await self._sessions.commit(key, request_of(request), decide, touches=(request.page_id,))
        return pb.LinkPagesResponse(revision=committed.revision)

    async def annotate_page(self, caller: Caller, request: pb.AnnotatePageRequest) -> pb.AnnotatePageResponse:
        key = session_key(caller.tenant, request.session_id)
        annotation = ev.PageAnnotation(
            page_id=request.page_id,
            hint=request.hint if request.HasField("hint") else None,
            page_type=PAGE_TYPE_OF.get(request.page_type),
            metadata=tuple(KeyValue(name, request.metadata[name]) for name in sorted(request.metadata)),
        )

        def decide(session: Session) -> ev.PagesAnnotated | None:
            decisions.writable(session, key.session, request.expected_revision)
            return decisions.annotate(session, annotation)

        committed = await self._sessions.commit(key, request_of(request), decide, touches=(request.page_id,))
        return pb.AnnotatePageResponse(revision=committed.revision)

    async def unmap_pages(self, caller: Caller, request: pb.DropPagesRequest) -> pb.DropPagesResponse:
        key = session_key(caller.tenant, request.session_id)
        if not request.page_ids:
            raise InvalidField("page_ids", "must have 1 to 256 entries, not 0")

        def decide(session: Session) -> ev.PagesUnmapped:
            decisions.writable(session, key.session, request.expected_revision)
            return decisions.unmap(session, request.page_ids)

        touches = tuple(request.page_ids)
        committed = await self._sessions.commit(key, request_of(request), decide, touches=touches)
        return pb.DropPagesResponse(revision=committed.revision)

    async def _spill(
        self, caller: Caller, key: SessionKey, request: Request, drafts: Sequence[Draft]
    ) -> dict[int, Extent]:
        """Places of what cannot travel in the log; nothing is stored for a request that was carried out before."""
        contents = [draft.content for draft in drafts]
        if not to_spill([len(content) for content in contents]):
            return {}
        await self._sessions.read_existing(key)
        if await self._sessions.carried_out(key, request):
            return {}
        return await spill(self._artifacts, caller, key, contents)

    def _note_work(self, key: SessionKey, committed: Committed) -> None:
        note_tail(self._sessions, self._outbox, key, committed.session)
        compressible = pages_to_compress(committed.session, committed.effects)
        if compressible:
            self._outbox.note_compress(key, committed.revision, compressible)


def note_tail(sessions: Sessions, outbox: Outbox, key: SessionKey, session: Session) -> None:
    """Have the session's log written back when it has grown enough since the last snapshot."""
    records, size_bytes = sessions.tail(key)
    if is_due(records, size_bytes, len(session.pages)):
        last_revision = session.archive[-1].last_revision if session.archive else 0
        outbox.note_writeback(key, f"{key.session}.{last_revision}")


def is_due(tail_records: int, tail_bytes: int, pages: int) -> bool:
    """Whether a session with such a tail is worth a write-back and a snapshot."""
    long = tail_records >= TAIL_RECORDS_MAX or tail_bytes >= TAIL_BYTES_MAX
    worth_it = tail_records * TAIL_RECORDS_SHARE >= pages or tail_bytes >= min(
        pages * TAIL_BYTES_PER_PAGE, TAIL_BYTES_LIMIT
    )
    return long and worth_it


def cost_of(committed: Committed) -> tuple[list[session_pb2.Happening], int]:
    """Return the effects of making room: all effects but pages entered and turns begun. See `happenings_of`."""
    return happenings_of([one for one in committed.effects if not isinstance(one.what, Admitted | TurnStarted)])


def _appended(committed: Committed, mapped: Sequence[tuple[str, Version]]) -> pb.AppendPagesResponse:
    pages = []
    for page_id, version in mapped:
        resident = committed.session.working_set.get(page_id)
        pages.append(
            pb.AppendedPage(
                page_id=page_id,
                version=version.version,
                size_tokens=version.full.size_tokens,
                resident=resident is not None and resident.version == version.version,
            )
        )
    happenings, left_out = cost_of(committed)
    return pb.AppendPagesResponse(
        revision=committed.revision,
        pages=pages,
        happenings=happenings,
        happenings_left_out=left_out,
        turn=mapped[-1][1].turn,
    )


def _mapped(committed: Committed, drafts: Sequence[Draft]) -> list[tuple[str, Version]]:
    """Ids and versions that the request mapped, whether just now or long ago: what the log has, not what it would get.

    A page that the request maps several times got as many versions at that revision, in order. A fork may have
    inherited another one whose revision, in its parent's log, is the same number: it comes before them.
    """
    pages, revision = committed.session.pages, committed.revision
    named = {draft.mapped.page_id for draft in drafts}
    made_up = iter(pages.first_mapped_at(revision, sum(not draft.mapped.page_id for draft in drafts), named))
    page_ids = [draft.mapped.page_id or next(made_up) for draft in drafts]
    left: dict[str, list[Version]] = {}
    for page_id, count in Counter(page_ids).items():
        at_revision = [version for version in pages[page_id].versions if version.revision == revision]
        left[page_id] = at_revision[-count:]
    return [(page_id, left[page_id].pop(0)) for page_id in page_ids]
