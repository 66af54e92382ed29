"""Hostile media, generated: what is no picture, sound or film, what is half of one, and what says that it is huge."""

import gzip
import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

from pagekeeper.core.pages import Modality

PNG = b"\x89PNG\r\n\x1a\n"
Hostile = tuple[str, Modality, bytes]
"""What it is, for a failing test's name; the modality that it claims; its bytes."""


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG, with the right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *between: bytes, rows: bytes = b"") -> bytes:
    """A PNG of true colour that says its size, whatever its rows have."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + header + b"".join(between) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def deflated_zeros(megabytes: int) -> bytes:
    """So many megabytes of zeros, a thousandth as long."""
    squeeze = zlib.compressobj(9)
    block = bytes(1024 * 1024)
    return b"".join([*(squeeze.compress(block) for _ in range(megabytes)), squeeze.flush()])


def bombs() -> Iterator[Hostile]:
    """Few bytes that say, or become, very many."""
    image = Modality.IMAGE
    yield "a PNG of 65,000 x 65,000", image, png(65_000, 65_000, rows=bytes(100))
    yield "a PNG of 2^31 x 2^31", image, png(2**31 - 1, 2**31 - 1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    yield "a PNG whose rows are a deflate bomb", image, PNG + header + chunk(b"IDAT", deflated_zeros(512))
    text = chunk(b"zTXt", b"Comment\0\0" + deflated_zeros(512))
    yield "a PNG whose text is a deflate bomb", image, png(1, 1, text, rows=bytes(4))
    profile = chunk(b"iCCP", b"x\0\0" + deflated_zeros(512))
    yield "a PNG whose profile is a deflate bomb", image, png(1, 1, profile, rows=bytes(4))
    yield "a PNG of 16 million pixels of nothing", image, png(4_096, 4_096, rows=bytes(4_096 * (3 * 4_096 + 1)))
    yield "a GIF of 65,535 x 65,535", image, b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + gif_frame()
    yield "a BMP of 2^30 rows", image, bitmap(1, 2**30)
    yield "a JPEG of 65,500 x 65,500", image, jpeg(65_500, 65_500)
    yield "a TIFF that is its own next page", image, tiff_in_a_circle()
    yield "a gzip bomb", image, gzip.compress(bytes(64 * 1024 * 1024))


def gif_frame() -> bytes:
    """One pixel, in the upper left corner."""
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0x80) + bytes(6) + b"\x02\x02\x44\x01\x00"


def animation(frames: int) -> bytes:
    """An animated GIF."""
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + gif_frame() * frames + b";"


def bitmap(width: int, height: int) -> bytes:
    """A BMP of which no row is there."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg(width: int, height: int) -> bytes:
    """A progressive JPEG that ends after it has said its size."""
    size = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8\xff\xc2" + struct.pack(">H", len(size) + 2) + size + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"


def tiff_in_a_circle() -> bytes:
    """A directory whose next directory is itself, and whose entries count two thousand million values."""
    entries = [struct.pack("<HHII", tag, 4, 2**31, 8) for tag in (256, 257, 258, 273, 279)]
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 8)


def disguises() -> Iterator[Hostile]:
    """Other formats, by themselves and behind the first bytes of a PNG."""
    others = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file pop\nshowpage\n",
        "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(/bin/sh)>>>>endobj\ntrailer<</Root 1 0 R>>\n",
        "XML": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;&b;&b;</x>',
        "a script": b"#!/bin/sh\ntouch /tmp/owned\n",
        "a playlist": b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
        "an archive": b"PK\x03\x04" + bytes(40),
        "a program": b"\x7fELF" + bytes(60),
    }
    for name, data in others.items():
        for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
            yield f"{name} as {modality.value}", modality, data
            yield f"{name} behind a PNG's beginning as {modality.value}", modality, PNG + data
        yield f"a PNG with {name} behind it", Modality.IMAGE, png(1, 1, rows=bytes(4)) + data


def streams(sound: bytes, film: bytes) -> Iterator[Hostile]:
    """Recordings that never end, or say so."""
    yield "a sound said again and again", Modality.AUDIO, sound * (8 * 1024 * 1024 // len(sound))
    yield "a film said again and again", Modality.VIDEO, film * (8 * 1024 * 1024 // len(film))
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    yield "an MP3 of 20,000 frames", Modality.AUDIO, frame * 20_000
    yield (
        "a WAV of 4 GiB that ends at once",
        Modality.AUDIO,
        (
            b"RIFF\xff\xff\xff\xffWAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 65_535, 2**31, 2**31, 1, 16)
            + b"data\xff\xff\xff\xff"
        ),
    )
    yield "an MP4 of nested boxes", Modality.VIDEO, nested_boxes(10_000)
    yield "an endless run of one byte", Modality.VIDEO, b"\x47" * (4 * 1024 * 1024)


def nested_boxes(depth: int) -> bytes:
    """Boxes of an MP4, each the only content of the one around it."""
    boxes = b""
    for _ in range(depth):
        boxes = struct.pack(">I", len(boxes) + 8) + b"moov" + boxes
    return struct.pack(">I", 16) + b"ftypisom" + bytes(4) + boxes


def damaged(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """So many copies, each with a few bytes changed, or with a part left out or said twice."""
    drawn = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(drawn.randint(1, 6)):
            copy[drawn.randrange(len(copy))] = drawn.choice([0, 0x7F, 0x80, 0xFF, drawn.randrange(256)])
        begin, end = sorted(drawn.randrange(len(copy) + 1) for _ in range(2))
        yield bytes(drawn.choice([copy, copy[:begin] + copy[end:], copy[:end] + copy[begin:]]))


def truncated(data: bytes, step: int) -> Iterator[bytes]:
    """Cut after each `step` bytes."""
    for end in range(0, len(data), step):
        yield data[:end]


def picture_of(pillow_format: str) -> bytes:
    """A small picture of a format, with something to see."""
    from PIL import Image  # noqa: PLC0415 - of an extra

    data = BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(data, pillow_format)
    return data.getvalue()
