"""A session's residents as lines of prompts, kept up from one answer of working-set to the next.

A session has hundreds of residents and a turn changes a few. So an answer tells what has changed, and a prompt's
sections are made of the earlier ones. What was made for one revision is never changed again: a prompt that waits for
bytes meanwhile sees one revision.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from pagekeeper.core.events import SessionConfig
from pagekeeper.core.last_words import LastWords, words_of_medium
from pagekeeper.core.manifest import AvailablePageEntry, ManifestLine, available_line
from pagekeeper.core.offering import Place
from pagekeeper.core.packing import ContextPage, PackedLine
from pagekeeper.core.prompt_section import PlacedSection, PromptPage, PromptSection
from pagekeeper.gateway.contents import Content, Contents, Unreadable, Wanted, is_text, levels_below
from pagekeeper.gateway.counting import Count, Counting
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.views import MODALITY_OF, TIER_OF
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb

PAGE_BYTES: Final = 2_048
"""What is known of a page: an entry of 600 bytes with its objects, a line of a manifest with its hint."""
TOKEN_BYTES: Final = 8
"""What the text of a line takes for each of its tokens: 4 characters of ordinary text, with its lower levels."""
KEPT_MAX: Final = 8_192
"""Lines of manifests and of lower levels that are kept of a session; all are made anew when there are more."""

_CONFIG: Final = codec_of(SessionConfig)

Fingerprint = tuple[object, ...]


class _Line(NamedTuple):
    """A resident page's entry in prompts, and what it was made of."""

    fingerprint: Fingerprint
    place: Place
    faulted: bool
    level: int
    page: PromptPage


class ResidentLines:
    """The lines of a session's residents at one revision, as one tokenizer counts them."""

    def __init__(
        self,
        context: PlacedSection | None = None,
        faulted: PlacedSection | None = None,
        lines: Mapping[str, _Line] = MappingProxyType({}),
        lowered_total: int = 0,
    ) -> None:
        self.unreadable: frozenset[str] = frozenset()
        """Residents that have no line, because their bytes cannot be read."""
        self._context, self._faulted = context or PlacedSection(), faulted or PlacedSection()
        self._lines = dict(lines)
        self._lowered_total = lowered_total

    def copy(self) -> "ResidentLines":
        """The same lines, which change apart from these."""
        return ResidentLines(self._context.copy(), self._faulted.copy(), self._lines, self._lowered_total)

    @property
    def tokens(self) -> int:
        return self._context.section.tokens + self._faulted.section.tokens

    @property
    def all_full(self) -> bool:
        """Whether each page stands at its full level."""
        return not self._lowered_total

    def fingerprint_of(self, page_id: str) -> Fingerprint | None:
        """The facts that the page's line was made of; None for a page that has none."""
        line = self._lines.get(page_id)
        return None if line is None else line.fingerprint

    def sections(self, without: str = "") -> tuple[PromptSection, PromptSection]:
        """The pages that were said into the prompt, and those that came by a fault; `without` is left out."""
        context, faulted = self._context.section, self._faulted.section
        line = self._lines.get(without)
        if line is None:
            return context, faulted
        placed = self._faulted if line.faulted else self._context
        section = placed.section.copy()
        section.remove(placed.index(line.place))
        return (context, section) if line.faulted else (section, faulted)

    def leave(self, page_id: str) -> None:
        """Nothing when the page has no line."""
        line = self._lines.pop(page_id, None)
        if line is not None:
            self._lowered_total -= line.level > 0
            self._section_of(line).leave(line.place)

    def enter(self, page_id: str, line: _Line) -> None:
        """Have this line for the page, instead of one that it had."""
        self.leave(page_id)
        self._lines[page_id] = line
        self._lowered_total += line.level > 0
        self._section_of(line).enter(line.place, line.page)

    def moved(self, page_id: str, entry: working_pb.ResidentEntry) -> _Line:
        """The page's line where the entry has it now."""
        line = self._lines[page_id]
        return line._replace(place=_place(entry), faulted=entry.resident.faulted)

    def _section_of(self, line: _Line) -> PlacedSection:
        return self._faulted if line.faulted else self._context


@dataclass(frozen=True, slots=True)
class _Stale:
    """Lines of an earlier revision, and the pages that have changed since."""

    lines: ResidentLines
    changed: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Lines that stay from one revision to the next, and are looked up by what they were made of."""

    lower: dict[tuple[str, str], tuple[Fingerprint, PromptPage]] = field(default_factory=dict)
    """Residents with their lines at all lower levels, by tokenizer and page."""
    manifest: dict[str, tuple[Fingerprint, ManifestLine]] = field(default_factory=dict)


class KnownSession:
    """The facts that working-set has told of a session, at one revision.

    `entries` are the residents by page id; bytes that came along are those of pages that were new to this replica.
    `eviction_order` is None when the answer has none.
    """

    def __init__(
        self,
        answer: working_pb.ResidentResponse,
        entries: Mapping[str, working_pb.ResidentEntry],
        stale: Mapping[str, _Stale],
        kept: _Kept,
    ) -> None:
        self.answer = answer
        self.revision = answer.revision
        self.config: SessionConfig = _CONFIG.decode(answer.config)
        self.entries = entries
        self.eviction_order: Sequence[str] | None = None
        self.order_is_wanted = False
        """Whether the last prompt had no room for all residents, so that the next one will ask which go first."""
        self._kept = kept
        self._stale = dict(stale)
        """By the tokenizer's name, as `_lines`."""
        self._lines: dict[str, ResidentLines] = {}

    @classmethod
    def of(cls, answer: working_pb.ResidentResponse) -> Self:
        """From an answer with all residents."""
        return cls(answer, {one.resident.page_id: one for one in answer.resident}, {}, _Kept())

    def after(self, answer: working_pb.ResidentResponse) -> "KnownSession":
        """The session after a later answer, which may have the changes alone since this one."""
        later = self._changed(answer) if answer.changes_only else KnownSession.of(answer)
        later.order_is_wanted = self.order_is_wanted
        return later

    def _changed(self, answer: working_pb.ResidentResponse) -> "KnownSession":
        entered = {one.resident.page_id: one for one in answer.resident}
        entries = {**self.entries, **entered}
        for page_id in answer.left_page_ids:
            entries.pop(page_id, None)
        if _CONFIG.decode(answer.config).layout is not self.config.layout:
            return KnownSession(answer, entries, {}, _Kept())
        changed = frozenset((*entered, *answer.left_page_ids))
        stale = {name: _Stale(one.lines, one.changed | changed) for name, one in self._stale.items()}
        stale |= {name: _Stale(lines, changed) for name, lines in self._lines.items()}
        if len(self._kept.lower) + len(self._kept.manifest) > KEPT_MAX:
            return KnownSession(answer, entries, stale, _Kept())
        return KnownSession(answer, entries, stale, self._kept)

    @property
    def size_bytes(self) -> int:
        """Memory that the session takes here, estimated: the text of its lines, and what is known of each page."""
        lines = (*self._lines.values(), *(stale.lines for stale in self._stale.values()))
        known = len(self.entries) + len(self._kept.manifest) + len(self._kept.lower)
        return PAGE_BYTES * (1 + known) + TOKEN_BYTES * sum(one.tokens for one in lines)

    async def lines(self, caller: Caller, session_id: str, contents: Contents, counting: Counting) -> ResidentLines:
        """The residents' lines, made anew where they have changed since an earlier revision.

        A page that cannot be read has none, and is tried again by the next prompt. Raises StoreUnavailable.
        """
        name = counting.model.tokenizer.name
        known = self._lines.get(name)
        if known is not None:
            return known
        stale = self._stale.get(name) or _Stale(ResidentLines(), frozenset(self.entries))
        lines = stale.lines.copy()
        changed = [self.entries[page_id] for page_id in stale.changed if page_id in self.entries]
        anew = [one for one in changed if lines.fingerprint_of(one.resident.page_id) != _fingerprint(one)]
        loaded = await contents.load_each(caller, session_id, [wanted(entry) for entry in anew])
        await contents.count(caller, counting, loaded)
        made, unreadable = {}, set()
        for entry, content in zip(anew, loaded, strict=True):
            if isinstance(content, Unreadable):
                unreadable.add(entry.resident.page_id)
                continue
            made[entry.resident.page_id] = self._made(entry, content, counting)
            entry.ClearField("inline")  # The cache has the bytes now.
        for page_id in stale.changed:
            now = self.entries.get(page_id)
            if now is None or page_id in unreadable:
                lines.leave(page_id)
            else:
                lines.enter(page_id, made.get(page_id) or lines.moved(page_id, now))
        lines.unreadable = frozenset(unreadable)
        if unreadable:
            self._stale[name] = _Stale(lines, lines.unreadable)
        else:
            self._lines[name] = lines
            self._stale.pop(name, None)
        return lines

    async def last_words(
        self, caller: Caller, session_id: str, contents: Contents, count: Count
    ) -> tuple[LastWords | None, ManifestLine | None]:
        """The user's last words, and the line by which a manifest lists their page. Raises StoreUnavailable."""
        if not self.answer.words_page_id:
            return None, None
        if self.answer.HasField("words"):
            entry = self.answer.words
            page, want = entry.page, Wanted(entry.page, 0, _inline_at(entry.inline, 0))
        else:
            resident = self.entries[self.answer.words_page_id]
            page, want = resident.page, wanted(resident)
        (content,) = await contents.load_each(caller, session_id, [want])
        if isinstance(content, Unreadable):
            return LastWords.unreadable(page.page_id), None
        text = content.data.decode() if is_text(page, 0) else words_of_medium(content.line)
        words = LastWords.of_page(page.page_id, text, page.speaker, page.said_unix_ms)
        return words, self.manifest_line(page, count)

    async def with_lower_levels(
        self,
        caller: Caller,
        session_id: str,
        contents: Contents,
        sections: Sequence[PromptSection],
        counting: Counting,
    ) -> list[PromptSection]:
        """The sections with their lines at all lower levels, for a budget that has no room for all as they are.

        Raises StoreUnavailable.
        """
        name = counting.model.tokenizer.name
        lower: dict[str, PromptPage] = {}
        missing = []
        for page in [page for section in sections for page in section]:
            entry = self.entries[page.page.line.page_id]
            kept = self._kept.lower.get((name, entry.resident.page_id))
            if kept is not None and kept[0] == _fingerprint(entry):
                lower[entry.resident.page_id] = kept[1]
            else:
                missing.append((entry, page, levels_below(entry.page, entry.resident.level)))
        levels = [Wanted(entry.page, one.level) for entry, _, below in missing for one in below]
        lower_contents = await contents.load_each(caller, session_id, levels)
        await contents.count(caller, counting, lower_contents)
        loaded = iter(lower_contents)
        for entry, page, below in missing:
            page_id = entry.resident.page_id
            lines = []
            for representation in below:
                content = next(loaded)
                if isinstance(content, Content):
                    tokens = counting.of_line(content.line, representation.size_tokens)
                    lines.append(PackedLine(page_id, representation.level, content.line, tokens))
            lower[page_id] = replace(page, page=replace(page.page, lower=tuple(lines)))
            self._kept.lower[name, page_id] = (_fingerprint(entry), lower[page_id])
        return [PromptSection(lower[page.page.line.page_id] for page in section) for section in sections]

    def manifest_line(self, page: page_pb2.Page, count: Count) -> ManifestLine:
        """The page's line among those that a manifest offers."""
        fingerprint = (page.hint, page.tier, len(page.representations), page.version, count)
        known = self._kept.manifest.get(page.page_id)
        if known is not None and known[0] == fingerprint:
            return known[1]
        entry = AvailablePageEntry(
            page_id=page.page_id,
            modality=MODALITY_OF[page.modality],
            tier=TIER_OF[page.tier],
            levels=tuple(one.level for one in page.representations),
            hint=page.hint,
        )
        line = available_line(entry, self.config.layout, count)
        self._kept.manifest[page.page_id] = (fingerprint, line)
        return line

    def _made(self, entry: working_pb.ResidentEntry, content: Content, counting: Counting) -> _Line:
        resident, page = entry.resident, entry.page
        tokens = counting.of_line(content.line, resident.size_tokens)
        line = PackedLine(resident.page_id, resident.level, content.line, tokens)
        prompt_page = PromptPage(
            page=ContextPage(line, mandatory=page.pinned),
            modality=MODALITY_OF[page.modality],
            importance=resident.importance,
            entry=self.manifest_line(page, counting.count),
        )
        return _Line(_fingerprint(entry), _place(entry), resident.faulted, resident.level, prompt_page)


def _fingerprint(entry: working_pb.ResidentEntry) -> Fingerprint:
    """All that a resident page's line and its entry in a manifest are made of."""
    resident, page = entry.resident, entry.page
    return (
        resident.version,
        resident.level,
        page.pinned,
        resident.importance,
        page.hint,
        page.tier,
        len(page.representations),
    )


def _place(entry: working_pb.ResidentEntry) -> Place:
    again = entry.place.said_again_revision
    return (entry.place.position, again > 0, again, entry.resident.page_id if again else "")


def wanted(entry: working_pb.ResidentEntry) -> Wanted:
    """A resident page at its level, with the bytes that came along."""
    return Wanted(entry.page, entry.resident.level, _inline_at(entry.inline, entry.resident.level))


def _inline_at(inline: Iterable[table_pb.InlineBytes], level: int) -> bytes | None:
    return next((one.data for one in inline if one.level == level), None)
