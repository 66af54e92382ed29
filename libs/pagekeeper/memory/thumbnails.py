"""Thumbnails for `ImageCompressor`. They need Pillow, which the extra `media` installs."""

from io import BytesIO

from pagekeeper.memory.arguments import checked

__all__ = ["make_thumbnail"]


@checked
def make_thumbnail(image: bytes) -> bytes:
    """The picture upright and within 512 pixels a side: JPEG, or PNG where it is transparent.

    Raises `PIL.UnidentifiedImageError` when the bytes are no picture, ImportError where Pillow is not installed.
    """
    from PIL import Image  # noqa: PLC0415 - the package is an extra, and the name of this function is in no extra

    from pagekeeper.core.compress.pictures import SIDE_PX_MAX, encoded, upright  # noqa: PLC0415 - it imports Pillow

    with Image.open(BytesIO(image)) as opened:
        return encoded(upright(opened), SIDE_PX_MAX).data
