"""Pictures made small: a thumbnail of one, a contact sheet of several. Needs Pillow, of the extra `media`."""

import colorsys
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from pagekeeper.core.previews import PREVIEW_BYTES_MAX, Preview

FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""The formats that are read, whatever a picture's name or type says. EPS is not among them: Pillow hands it to
Ghostscript, an interpreter of programs."""
PIXELS_MAX: Final = 16 * 1024 * 1024
"""Of a picture that is decoded, width times height: 64 MiB as Pillow keeps it."""
SCALED_PIXELS_MAX: Final = 4 * PIXELS_MAX
"""Of a JPEG, which its decoder makes smaller while it reads: a camera's picture has 50 million."""
SIDE_PX_MAX: Final = 512
"""One tile of the vision models that count in tiles."""
SMALLER_SIDES_PX: Final = (SIDE_PX_MAX, 384, 256, 192, 128, 96)
"""Tried until the picture fits a preview; noise in full colour does at the last."""
JPEG_QUALITY: Final = 80
COLUMNS_MAX: Final = 4
TILE_PX: Final = SIDE_PX_MAX // COLUMNS_MAX
COLOURS: Final = 4
"""That a picture is reduced to, to tell which it mostly has."""
HUES: Final = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "red")
HUE_ENDS: Final = (0.04, 0.11, 0.18, 0.45, 0.53, 0.72, 0.83, 0.95, 1.0)
SATURATED_MIN: Final = 0.25
DARK_MAX: Final = 0.35
LIGHT_MIN: Final = 0.75
BLACK_MAX: Final = 0.1
WHITE_MIN: Final = 0.9


def fits(opened: Image.Image) -> bool:
    """Tell whether an open picture is decoded within `PIXELS_MAX`. A JPEG is set to be decoded smaller where it can be.

    A JPEG that is decoded smaller also takes a fraction of the time.
    """
    if opened.width * opened.height > SCALED_PIXELS_MAX:
        return False
    opened.draft("RGB", (2 * SIDE_PX_MAX, 2 * SIDE_PX_MAX))
    return opened.width * opened.height <= PIXELS_MAX


def upright(opened: Image.Image) -> Image.Image:
    """The picture as it is meant to be seen, in RGB, or RGBA where it is transparent."""
    picture = ImageOps.exif_transpose(opened)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def encoded(picture: Image.Image, side_px_max: int) -> Preview:
    """Within so many pixels a side: JPEG, or PNG where it is transparent."""
    picture = picture.copy()
    picture.thumbnail((side_px_max, side_px_max))
    written = BytesIO()
    if picture.mode == "RGBA":
        picture.save(written, "PNG", optimize=True)
        return Preview("image/png", written.getvalue())
    picture.save(written, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Preview("image/jpeg", written.getvalue())


def preview_of(picture: Image.Image) -> Preview:
    """As large as `PREVIEW_BYTES_MAX` lets it be, and no larger than it is."""
    made = (encoded(picture, side) for side in SMALLER_SIDES_PX)
    return next(preview for preview in made if len(preview.data) <= PREVIEW_BYTES_MAX)


def contact_sheet(tiles: Sequence[tuple[str, Image.Image]]) -> Preview:
    """Pictures of one size side by side in rows, each with its caption; at least one."""
    width, height = tiles[0][1].size
    columns = min(len(tiles), COLUMNS_MAX)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    draw = ImageDraw.Draw(sheet)
    for index, (caption, tile) in enumerate(tiles):
        left, top = index % columns * width, index // columns * height
        sheet.paste(tile, (left, top))
        at = (left + 2, top + 1)
        draw.rectangle(draw.textbbox(at, caption), fill="black")
        draw.text(at, caption, fill="white")
    return preview_of(sheet)


def colour_of(picture: Image.Image) -> str:
    """The colour that a picture has most of, such as `dark blue`."""
    pixels = picture.convert("RGB").resize((32, 32)).quantize(COLOURS).convert("RGB").tobytes()
    [((red, green, blue), _)] = Counter(zip(pixels[0::3], pixels[1::3], pixels[2::3], strict=True)).most_common(1)
    hue, lightness, _ = colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)
    brightest = max(red, green, blue)
    saturation = (brightest - min(red, green, blue)) / brightest if brightest else 0.0
    if lightness <= BLACK_MAX:
        return "black"
    if lightness >= WHITE_MIN:
        return "white"
    shade = "dark " if lightness <= DARK_MAX else "light " if lightness >= LIGHT_MIN else ""
    if saturation < SATURATED_MIN:
        return f"{shade}grey"
    return shade + next(name for name, end in zip(HUES, HUE_ENDS, strict=True) if hue <= end)
