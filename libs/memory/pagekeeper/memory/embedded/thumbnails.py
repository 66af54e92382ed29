"""Pictures made smaller, for `ImageCompressor`. Needs Pillow, which the extra `media` installs."""

from io import BytesIO
from typing import Final

from PIL import Image, ImageOps

__all__ = ["make_thumbnail"]

SIDE_PX_MAX: Final = 512
"""One tile of the vision models that count in tiles."""
JPEG_QUALITY: Final = 80


def make_thumbnail(image: bytes) -> bytes:
    """The picture upright and within `SIDE_PX_MAX` a side: JPEG, or PNG where it is transparent.

    Raises `PIL.UnidentifiedImageError` when the bytes are no picture.
    """
    with Image.open(BytesIO(image)) as opened:
        picture = ImageOps.exif_transpose(opened)
        transparent = picture.has_transparency_data
        picture = picture.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((SIDE_PX_MAX, SIDE_PX_MAX))
    written = BytesIO()
    if transparent:
        picture.save(written, "PNG", optimize=True)
    else:
        picture.save(written, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return written.getvalue()
