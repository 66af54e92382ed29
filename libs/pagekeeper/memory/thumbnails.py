"""Thumbnails for `ImageCompressor`. They need Pillow, which the extra `media` installs."""

from io import BytesIO

from pagekeeper.memory.arguments import checked

__all__ = ["make_thumbnail"]


@checked
def make_thumbnail(image: bytes) -> bytes:
    """The picture upright and within 512 pixels a side: JPEG, or PNG where it is transparent.

    Raises `PIL.UnidentifiedImageError` when the bytes are no picture of a format that is read, ValueError when the
    picture has too many pixels, ImportError where Pillow is not installed.
    """
    from PIL import Image  # noqa: PLC0415 - the package is an extra, and the name of this function is in no extra

    from pagekeeper.core.compress.pictures import FORMATS, SIDE_PX_MAX, encoded, fits, upright  # noqa: PLC0415 - it imports Pillow

    with Image.open(BytesIO(image), formats=FORMATS) as opened:
        size = f"{opened.width} x {opened.height}"
        if not fits(opened):
            raise ValueError(f"image must have fewer pixels, not {size}")
        return encoded(upright(opened), SIDE_PX_MAX).data
