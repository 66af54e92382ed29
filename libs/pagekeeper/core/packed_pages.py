"""Pages as strings of bytes: how a session keeps those that are neither in its prompt nor in its log alone.

A packed page takes a fourth of the memory of its values. What pages have in common (kinds, forms, object keys) is
kept once a session and named by number, so the bytes mean something to the `PackedPages` that wrote them
alone, and never leave the process. Layouts have the same order of fields: narrow ones for numbers as they mostly are,
and a wide one for whatever the log can carry.

How a field of `PageState` or `Version` is packed follows from its type, so a field that is added there is packed too; a
type that is not known here stops the program at import.

Law: what is unpacked equals what was packed.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import accumulate, product, starmap
from operator import attrgetter, is_, itemgetter
from struct import Struct, error
from typing import Any, Final, Generic, TypeVar, get_type_hints, overload

from pagekeeper.core.pages import (
    Extent,
    KeyValue,
    LinkKind,
    MediaDescription,
    PackedLevels,
    PageLink,
    PageState,
    StoredRepresentation,
    Version,
)
from pagekeeper.core.reuse_counts import PageReuse

DIGEST_BYTES: Final = 32

_LINK_KINDS: Final = tuple(LinkKind)


class FieldGroups:
    """The fields of a class of values, by how they are packed. Those in `apart` are packed by hand."""

    def __init__(self, value_class: Any, apart: Sequence[str], in_common: Collection[str]) -> None:  # noqa: ANN401 - a class of named tuples
        """`in_common` names the texts of which a session has few different ones."""
        types = {name: one for name, one in get_type_hints(value_class).items() if name not in apart}
        enums = {name for name, one in types.items() if issubclass(one, Enum)}
        self.flags = [name for name, one in types.items() if one is bool]
        self.counts = [name for name, one in types.items() if one is int]
        self.fractions = [name for name, one in types.items() if one is float]
        self.texts = [name for name, one in types.items() if one is str and name not in in_common]
        common = [name for name in types if name in enums or name in in_common]
        groups = [self.flags, self.counts, self.fractions, self.texts, common]
        names = [name for group in groups for name in group]
        if set(names) != set(types):
            raise TypeError(f"{value_class.__name__}: {set(types) - set(names)} cannot be packed")
        ends = list(accumulate(map(len, groups)))
        self.slices = [slice(end - len(group), end) for end, group in zip(ends, groups, strict=True)]
        """Where in `values` the flags, counts, fractions, texts and what is in common stand."""
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
        read = (*apart, *names)
        self.in_order: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*map(read.index, value_class._fields))
        """The fields of a value, of `apart` followed by `values`."""


_PAGE: Final = FieldGroups(PageState, ("page_id", "versions", "links", "metadata", "reuse"), {"tool_name"})
_FLAGS, _COUNTS, _FRACTIONS, _TEXTS, _KIND = _PAGE.slices
_VERSION: Final = FieldGroups(Version, ("media", "representations"), {"mime_type", "speaker"})
_, _VERSION_COUNTS, _, _, _FORM = _VERSION.slices

_FLAG_VALUES: Final = tuple(product((False, True), repeat=len(_PAGE.flags)))
"""Values of all flags, by the number that says them."""
_FLAG_NUMBERS: Final = {values: number for number, values in enumerate(_FLAG_VALUES)}
_ANY_FLAG: Final = len(_FLAG_VALUES) - 1
_MAPPED: Final = 1 << (len(_PAGE.flags) - 1 - _PAGE.flags.index("mapped"))
_RELATED: Final = len(_FLAG_VALUES)
"""Links or metadata follow the versions."""
_LAYOUT: Final = 2 * _RELATED
"""What the number of its layout is multiplied by, above the flags; all of it is one byte."""

_NARROW: Final = {
    "current_version": "B",
    "recall_likelihood_percent": "B",
    "tool_call_id": "B",
    "version": "B",
    "revision": "I",
    "created_unix_ms": "Q",
    "said_unix_ms": "Q",
    "said_behind": "I",
}
"""How wide a number is in the narrow layouts, or the length of a text; two bytes when nothing is said."""

T = TypeVar("T", bound=Hashable)


class _Layout:
    """How wide the fields are. All but the widest layout omit `extent.length`, which equals `size_bytes`."""

    def __init__(self, number: int, counter: str, representation: str) -> None:
        """`counter` is how wide a count of reuses is; `representation` has the fields of a level."""
        of_type = {int: counter, float: "d"}
        reuse = "".join(of_type[one] for one in get_type_hints(PageReuse).values())
        self.flags = number * _LAYOUT
        self.wide = representation.endswith("QQ")
        few = "I" if self.wide else "B"
        # Flags, kind, versions, counts, fractions, reuse, lengths of texts.
        counts, texts = self._widths(_PAGE.counts), self._widths(_PAGE.texts)
        self.head = Struct(f"<B{few}{few}{counts}{'d' * len(_PAGE.fractions)}{reuse}{texts}")
        # Form, levels, counts.
        self.version = Struct(f"<{few}{few}{self._widths(_VERSION.counts)}")
        # Make, tokens, bytes, digest, object, offset, and in the widest the length.
        self._representation = representation
        self._representations: dict[int, Struct] = {}

    def _widths(self, names: Iterable[str]) -> str:
        return "".join("Q" if self.wide else _NARROW.get(name, "H") for name in names)

    def representations(self, count: int) -> Struct:
        layout = self._representations.get(count)
        if layout is None:
            layout = self._representations[count] = Struct("<" + self._representation * count)
        return layout


_LAYOUTS: Final = (
    _Layout(0, "H", "BHH32sHI"),
    _Layout(1, "I", "BHH32sHI"),
    _Layout(2, "Q", "IIQ32sIQQ"),
)
"""The first that has room is taken: for most pages, for those of a session with many references, and for any page."""
_LEVEL: Final = _LAYOUTS[0].representations(1)
_MAKE_AND_TOKENS: Final = Struct("<BH")
"""What a level begins with."""
_COUNT: Final = Struct("<I")
_BYTE: Final = Struct("<B")
_REUSE_AT: Final = 3 + len(_PAGE.counts) + len(_PAGE.fractions)
_LENGTHS_AT: Final = _REUSE_AT + len(PageReuse._fields)
"""Where in a page's head the numbers of its reuse begin, and the lengths of its texts."""
_MEDIA: Final = Struct("<IIdI")
_RELATED_COUNTS: Final = Struct("<II")


class _Table(Generic[T]):
    """Values that pages have in common, numbered from one; zero stands for no value."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._numbers: dict[T, int] = {}

    def __getitem__(self, number: int) -> T:
        return self._values[number - 1]

    def number(self, value: T) -> int:
        number = self._numbers.get(value)
        if number is None:
            self._values.append(value)
            number = self._numbers[value] = len(self._values)
        return number


class PackedPages:
    """Packs the pages of one session."""

    def __init__(self) -> None:
        self._kinds = _Table[tuple[Any, ...]]()
        """Of pages: what `_PAGE` has in common."""
        self._forms = _Table[tuple[Any, ...]]()
        """Of versions: what `_VERSION` has in common, and whether it is a medium."""
        self._makes = _Table[tuple[int, str, str]]()
        """Of representations: level, compressor, and the content type of a preview."""
        self._objects = _Table[str]()

    def pack(self, page: PageState) -> bytes | None:
        """None for a page that stays as it is: one with bytes in the log alone, or a digest that is not SHA-256's."""
        if not all(_are_packable(version.representations) for version in page.versions):
            return None
        for layout in _LAYOUTS[:-1]:
            try:
                return self._written(page, layout)
            except error:
                continue
        return self._written(page, _LAYOUTS[-1])

    def unpack(self, page_id: str, packed: bytes) -> PageState:
        layout = _LAYOUTS[packed[0] // _LAYOUT]
        head = layout.head.unpack_from(packed)
        flags, kind, version_count = head[:3]
        at, texts = layout.head.size, []
        for length in head[_LENGTHS_AT:]:
            texts.append(packed[at : at + length].decode())
            at += length
        reader = _Reader(packed, at)
        versions = tuple([self._version(reader, layout) for _ in range(version_count)])
        links, metadata = _read_related(reader) if flags & _RELATED else ((), ())
        reuse = PageReuse._make(head[_REUSE_AT:_LENGTHS_AT])
        apart = (page_id, versions, links, metadata, reuse)
        read = (*apart, *_FLAG_VALUES[flags & _ANY_FLAG], *head[3:_REUSE_AT], *texts, *self._kinds[kind])
        return PageState._make(_PAGE.in_order(read))

    def with_packed_levels(self, page: PageState) -> PageState:
        """An equal page whose levels are packed, as far as they can be; the page itself when nothing is to be done."""
        with_packed_levels = tuple([self._slimmed(version) for version in page.versions])
        return page if all(map(is_, with_packed_levels, page.versions)) else page._replace(versions=with_packed_levels)

    def _slimmed(self, version: Version) -> Version:
        levels = version.representations
        if type(levels) is _Levels or not _are_packable(levels):
            return version
        try:
            data = self._representations(levels, _LAYOUTS[0])
        except error:
            return version
        return version._replace(representations=_Levels(version.full.size_tokens, data, self))

    def level(self, levels: bytes, place: int) -> StoredRepresentation:
        return self._stored(*_LEVEL.unpack_from(levels, place * _LEVEL.size))

    def every_level(self, levels: bytes) -> Iterator[StoredRepresentation]:
        return starmap(self._stored, _LEVEL.iter_unpack(levels))

    def level_and_tokens(self, levels: bytes, at: int) -> tuple[int, int]:
        make, size_tokens = _MAKE_AND_TOKENS.unpack_from(levels, at)
        return self._makes[make][0], size_tokens

    # Writing

    def _written(self, page: PageState, layout: _Layout) -> bytes:
        """Raises struct's error for a number that the layout has no room for."""
        values = _PAGE.values(page)
        texts = [text.encode() for text in values[_TEXTS]]
        related = bool(page.links or page.metadata)
        parts = [
            layout.head.pack(
                layout.flags | related * _RELATED | _FLAG_NUMBERS[values[_FLAGS]],
                self._kinds.number(values[_KIND]),
                len(page.versions),
                *values[_COUNTS],
                *values[_FRACTIONS],
                *page.reuse,
                *map(len, texts),
            ),
            *texts,
        ]
        for version in page.versions:
            values = _VERSION.values(version)
            form = self._forms.number((*values[_FORM], version.media is not None))
            parts.append(layout.version.pack(form, len(version.representations), *values[_VERSION_COUNTS]))
            parts.append(self._representations(version.representations, layout))
            if version.media is not None:
                parts += _media_parts(version.media)
        if related:
            parts += _related_parts(page)
        return b"".join(parts)

    def _representations(self, representations: Sequence[StoredRepresentation], layout: _Layout) -> bytes:
        if type(representations) is _Levels and representations.packed_pages is self and not layout.wide:
            return representations.data
        values: list[int | bytes] = []
        for stored in representations:
            extent = stored.extent
            values += (
                self._makes.number((stored.level, stored.compressor, stored.preview_mime_type)),
                stored.size_tokens,
                stored.size_bytes,
                stored.digest,
            )
            if extent is None:
                values += (0, 0)
            else:
                values += (self._objects.number(extent.object_key), extent.offset)
            if layout.wide:
                values.append(extent.length if extent is not None else 0)
            elif extent is not None and extent.length != stored.size_bytes:
                raise error("a place of another length than the bytes")
        return layout.representations(len(representations)).pack(*values)

    # Reading

    def _version(self, reader: "_Reader", layout: _Layout) -> Version:
        form, count, *counts = reader.take(layout.version)
        *common, is_medium = self._forms[form]
        representations: Sequence[StoredRepresentation]
        if layout.wide:
            values = reader.take(layout.representations(count))
            representations = tuple([self._stored(*values[at : at + 7]) for at in range(0, count * 7, 7)])
        else:
            # Most of who asks for a page asks for none of its levels, or for one.
            levels = reader.part(count * _LEVEL.size)
            representations = _Levels(self.level_and_tokens(levels, 0)[1], levels, self)
        media = _read_media(reader) if is_medium else None
        return Version._make(_VERSION.in_order((media, representations, *counts, *common)))

    def _stored(
        self,
        make: int,
        size_tokens: int,
        size_bytes: int,
        digest: bytes,
        object_number: int,
        offset: int,
        length: int | None = None,
    ) -> StoredRepresentation:
        level, compressor, preview_mime_type = self._makes[make]
        extent = None
        if object_number:
            extent = Extent(self._objects[object_number], offset, size_bytes if length is None else length)
        return StoredRepresentation(
            level, size_tokens, size_bytes, digest, compressor, extent=extent, preview_mime_type=preview_mime_type
        )


class _Levels(PackedLevels):
    """`data` is as all layouts but the widest have it."""

    __slots__ = ("data", "packed_pages")

    def __init__(self, full_size_tokens: int, data: bytes, packed_pages: PackedPages) -> None:
        self.full_size_tokens = full_size_tokens
        self.data = data
        self.packed_pages = packed_pages

    def shorter(self, level: int, size_tokens: int) -> tuple[int, int] | None:
        for at in range(0, len(self.data), _LEVEL.size):
            lower = self.packed_pages.level_and_tokens(self.data, at)
            if lower[0] > level and lower[1] < size_tokens:
                return lower
        return None

    def __len__(self) -> int:
        return len(self.data) // _LEVEL.size

    def __iter__(self) -> Iterator[StoredRepresentation]:
        return self.packed_pages.every_level(self.data)

    @overload
    def __getitem__(self, index: int) -> StoredRepresentation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[StoredRepresentation, ...]: ...
    def __getitem__(self, index: int | slice) -> StoredRepresentation | tuple[StoredRepresentation, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return self.packed_pages.level(self.data, range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _are_packable(levels: Sequence[StoredRepresentation]) -> bool:
    if type(levels) is _Levels:
        return True
    return all(stored.inline is None and len(stored.digest) == DIGEST_BYTES for stored in levels)


def is_mapped(packed: bytes) -> bool:
    return packed[0] & _MAPPED != 0


class _Reader:
    """Where the next field is."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, layout: Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values

    def part(self, length: int) -> bytes:
        part = self._data[self._at : self._at + length]
        self._at += length
        return part

    def text(self) -> str:
        [length] = self.take(_COUNT)
        return self.part(length).decode()


def _text_parts(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        data = text.encode()
        yield _COUNT.pack(len(data))
        yield data


def _media_parts(media: MediaDescription) -> Iterator[bytes]:
    yield _MEDIA.pack(media.width, media.height, media.duration_seconds, len(media.scenes))
    yield from _text_parts((media.caption, media.transcript, *media.scenes))


def _read_media(reader: _Reader) -> MediaDescription:
    width, height, duration_seconds, scenes = reader.take(_MEDIA)
    caption, transcript = reader.text(), reader.text()
    return MediaDescription(
        caption, transcript, width, height, duration_seconds, tuple([reader.text() for _ in range(scenes)])
    )


def _related_parts(page: PageState) -> Iterator[bytes]:
    yield _RELATED_COUNTS.pack(len(page.links), len(page.metadata))
    for link in page.links:
        yield bytes((_LINK_KINDS.index(link.kind),))
        yield from _text_parts((link.target_page_id,))
    for entry in page.metadata:
        yield from _text_parts((entry.key, entry.value))


def _read_related(reader: _Reader) -> tuple[tuple[PageLink, ...], tuple[KeyValue, ...]]:
    links, metadata = reader.take(_RELATED_COUNTS)
    return (
        tuple([PageLink(_LINK_KINDS[reader.take(_BYTE)[0]], reader.text()) for _ in range(links)]),
        tuple([KeyValue(reader.text(), reader.text()) for _ in range(metadata)]),
    )
