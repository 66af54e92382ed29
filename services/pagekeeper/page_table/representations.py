"""Lower representations: what others made of a version, counted and checked before the log says that it is there.

Invariant: a representation's digest and size are those of its bytes, whoever computed them first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField, PageNotFound
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.lines import facts_of_version
from pagekeeper.core.pages import CompressionLevel, StoredRepresentation
from pagekeeper.core.previews import PREVIEW_BYTES_MAX, PREVIEW_MIME_TYPES, parted
from pagekeeper.core.session import Session
from pagekeeper.page_table.line_tokens import LineTokens, decided
from pagekeeper.page_table.mapping import TokenizerOf, note_tail
from pagekeeper.page_table.outbox import Outbox
from pagekeeper.page_table.spilling import spill
from pagekeeper.runtime import limits
from pagekeeper.runtime.artifacts import ArtifactPort, blob_of
from pagekeeper.runtime.extents import extent_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.requests import request_of
from pagekeeper.runtime.sessions import Committed, Sessions
from pagekeeper.runtime.tokens import Tokenizer
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import event_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb

LEVEL_MAX: Final = max(CompressionLevel)


@dataclass(frozen=True, slots=True)
class Made:
    """A representation that somebody made, and its bytes."""

    added: ev.AddedRepresentation
    content: bytes


class Representations:
    def __init__(
        self, sessions: Sessions, tokenizer_of: TokenizerOf, artifacts: ArtifactPort, outbox: Outbox, pool: Pool
    ) -> None:
        self._sessions = sessions
        self._tokenizer_of = tokenizer_of
        self._artifacts = artifacts
        self._outbox = outbox
        self._pool = pool

    async def add_representations(
        self, caller: Caller, request: table_pb.AddRepresentationsRequest
    ) -> table_pb.AddRepresentationsResponse:
        limits.check(request)
        key = session_key(caller.tenant, request.session_id)
        made = await self._made(caller, key, request.representations)
        line_tokens = LineTokens(self._pool, caller.tenant, sum(len(one.content) for one in made))

        def decide(session: Session) -> ev.RepresentationsAdded | None:
            decisions.writable(session, key.session)
            tokenizer = self._tokenizer_of(session.config.model)
            counted = [_counted(session, line_tokens, tokenizer, one) for one in made]
            line_tokens.complete(tokenizer)
            return decisions.add_representations(session, counted)

        touches = tuple(dict.fromkeys(one.added.page_id for one in made))
        done_once = request_of(request)
        committed = await decided(partial(self._sessions.commit, key, done_once, decide, touches=touches))
        decisions.readable(committed.session, key.session)
        note_tail(self._sessions, self._outbox, key, committed.session)
        return table_pb.AddRepresentationsResponse(revision=committed.revision, made=_new_ones(committed, made))

    async def _made(self, caller: Caller, key: SessionKey, sent: Sequence[event_pb2.AddedRepresentation]) -> list[Made]:
        """Return the sent representations with their bytes; bytes too large for the log are stored first."""
        contents = await self._contents(caller, sent)
        inline = [i for i, one in enumerate(sent) if one.representation.HasField("inline")]
        shown = [position for position, i in enumerate(inline) if sent[i].representation.preview_mime_type]
        spilled = await spill(self._artifacts, caller, key, [contents[i] for i in inline], anyway=shown)
        extents = {inline[position]: extent for position, extent in spilled.items()}
        made = []
        for index, (one, content) in enumerate(zip(sent, contents, strict=True)):
            stored = one.representation
            extent = extents.get(index)
            if extent is None and not stored.HasField("inline"):
                extent = extent_of(stored.extent)
            representation = StoredRepresentation(
                level=stored.level,
                size_tokens=stored.size_tokens,
                size_bytes=len(content),
                digest=sha256(content).digest(),
                compressor=stored.compressor,
                inline=content if extent is None else None,
                extent=extent,
                preview_mime_type=stored.preview_mime_type,
            )
            made.append(Made(ev.AddedRepresentation(one.page_id, one.version, representation), content))
        return made

    async def _contents(self, caller: Caller, sent: Sequence[event_pb2.AddedRepresentation]) -> list[bytes]:
        """Raises InvalidField for bytes that are not what is said of them, ContentCorrupt for stored ones."""
        contents = {}
        stored = []
        for index, one in enumerate(sent):
            where = f"representations[{index}].representation"
            if not 1 <= one.representation.level <= LEVEL_MAX:
                raise InvalidField(f"{where}.level", f"must be 1 to {LEVEL_MAX}, not {one.representation.level}")
            if one.representation.HasField("inline"):
                contents[index] = one.representation.inline
                if one.representation.digest not in (b"", sha256(one.representation.inline).digest()):
                    raise InvalidField(f"{where}.digest", "must be the SHA-256 of the bytes")
            elif one.representation.HasField("extent"):
                stored.append(index)
            else:
                raise InvalidField(f"{where}.inline", "must hold the bytes, or extent must say where they are")
        if stored:
            refs = [
                artifact_pb.BlobRef(extent=sent[i].representation.extent, digest=sent[i].representation.digest)
                for i in stored
            ]
            response = await self._artifacts.get_blobs(caller, artifact_pb.GetBlobsRequest(refs=refs))
            for index, item in zip(stored, response.items, strict=True):
                page_id = sent[index].page_id
                contents[index] = blob_of(item, f"page {page_id!r}", page_id=page_id)
        for index, content in contents.items():
            _check_preview(f"representations[{index}].representation", sent[index].representation, content)
        return [contents[index] for index in range(len(sent))]


def _check_preview(where: str, stored: event_pb2.StoredRepresentation, content: bytes) -> None:
    """Raises InvalidField."""
    if stored.preview_mime_type not in ("", *PREVIEW_MIME_TYPES):
        raise InvalidField(f"{where}.preview_mime_type", f"must be {' or '.join(PREVIEW_MIME_TYPES)}, or empty")
    try:
        text, preview = parted(content, stored.preview_mime_type)
        text.decode()
    except ValueError as error:
        raise InvalidField(f"{where}.inline", f"must be text, with a preview as its type says: {error}") from error
    if preview is not None and len(preview.data) > PREVIEW_BYTES_MAX:
        raise InvalidField(f"{where}.inline", f"must have a preview of at most {PREVIEW_BYTES_MAX:,} bytes")


def _counted(session: Session, line_tokens: LineTokens, tokenizer: Tokenizer, one: Made) -> ev.AddedRepresentation:
    """With `size_tokens` where whoever made it did not count. Raises PageNotFound."""
    added, representation = one.added, one.added.representation
    if representation.size_tokens:
        return added
    page = decisions.known_page(session, added.page_id)
    version = page.version(added.version)
    if version is None:
        raise PageNotFound(added.page_id)
    facts = facts_of_version(page, version)
    line = (facts, representation.level, one.content, representation.preview_mime_type)
    tokens = line_tokens.count(tokenizer, line)
    return replace(added, representation=replace(representation, size_tokens=tokens))


def _new_ones(committed: Committed, made: Sequence[Made]) -> list[pb.MadeRepresentation]:
    """Return the representations that the request added, now or earlier: those with the bytes of the request."""
    if not committed.repeated and committed.revision == committed.previous_revision:
        return []
    new = []
    for one in made:
        page = committed.session.pages.get(one.added.page_id)
        version = page.version(one.added.version) if page else None
        representation = version.at(one.added.representation.level) if version else None
        if representation is not None and representation.digest == one.added.representation.digest:
            new.append(
                pb.MadeRepresentation(
                    page_id=one.added.page_id,
                    level=representation.level,
                    size_tokens=representation.size_tokens,
                    compressor=representation.compressor,
                )
            )
    return new
