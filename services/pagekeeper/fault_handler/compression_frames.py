"""Messages between the service and a process that compresses: frames of four bytes of length, then JSON.

A request is a list of pages. An answer says how the process that had the pages ended, and then their levels.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality
from pagekeeper.core.previews import Preview
from pagekeeper.core.wellformed import whole_text
from pagekeeper.fault_handler.viewing import Lowered

LENGTH_BYTES: Final = 4
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of one answer: a page of 4 MiB of text whose every character is escaped, and more is no level of a page."""


@dataclass(frozen=True, slots=True)
class Page:
    """The input of compression: the text that a model can read, and the bytes of a medium."""

    source: Source
    data: bytes = b""
    heard: str = ""
    """What a model says is said in it."""
    undecodable: bool = False
    """Whether the bytes are known to be undecodable, so that they are not here."""


@dataclass(frozen=True, slots=True)
class Died:
    """How the process that had the pages ended without an answer. `by_itself` when its input or a limit ended it."""

    how: str
    by_itself: bool


def frame(data: bytes) -> bytes:
    """The bytes with their length before them."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def packed_pages(pages: Sequence[Page]) -> bytes:
    """The content of a request."""
    return _json([_packed(page) for page in pages])


def unpacked_pages(request: bytes) -> list[Page]:
    """The pages of a request."""
    return [_unpacked(**one) for one in json.loads(request)]


def packed_levels(made: Sequence[Lowered]) -> bytes:
    """The content of an answer."""
    return _json([([_packed_level(level) for level in one.levels], one.problem) for one in made])


def packed_death(died: Died) -> bytes:
    """The content of an answer that has no levels."""
    return _json({"how": died.how, "by_itself": died.by_itself})


def unpacked_answer(answer: bytes, pages: int) -> list[Lowered] | Died:
    """The levels of each of so many pages, or how the process died that had them.

    Whatever decoded a hostile medium has written the answer, so each part of it is checked. Raises ValueError.
    """
    told = json.loads(answer)
    try:
        if isinstance(told, dict):
            return Died(str(told["how"]), bool(told["by_itself"]))
        made = [Lowered([_compressed(*level) for level in levels], str(problem)) for levels, problem in told]
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError(f"no answer of a process that compresses: {wrong}") from wrong
    if len(made) != pages:
        raise ValueError(f"{len(made)} answers for {pages} pages")
    return made


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _packed(page: Page) -> dict[str, object]:
    source = {**asdict(page.source), "modality": page.source.modality.value}
    data = b64encode(page.data).decode()
    return {**source, "data": data, "heard": page.heard, "undecodable": page.undecodable}


def _unpacked(
    page_id: str,
    modality: str,
    text: str,
    media: dict[str, object] | None,
    *,
    data: str,
    heard: str,
    undecodable: bool,
) -> Page:
    described = None
    if media is not None:
        scenes = media["scenes"]
        assert isinstance(scenes, list)
        described = MediaDescription(**{**media, "scenes": tuple(scenes)})  # type: ignore[arg-type]  # fields by name
    return Page(Source(page_id, Modality(modality), text, described), b64decode(data), heard, undecodable)


def _packed_level(made: Compressed) -> tuple[object, ...]:
    preview = made.preview and (made.preview.mime_type, b64encode(made.preview.data).decode())
    return int(made.level), whole_text(made.text), made.tokens, made.compressor, preview


def _compressed(level: int, text: str, tokens: int, compressor: str, preview: tuple[str, str] | None) -> Compressed:
    shown = Preview(str(preview[0]), b64decode(preview[1])) if preview else None
    return Compressed(CompressionLevel(level), whole_text(str(text)), int(tokens), str(compressor), shown)
