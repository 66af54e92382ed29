"""Pictures made smaller, for `ImageCompressor`. Needs Pillow, which the extra `media` installs."""

from io import BytesIO

from PIL import Image

from pagekeeper.core.compress.pictures import SIDE_PX_MAX, encoded, upright

__all__ = ["make_thumbnail"]


def make_thumbnail(image: bytes) -> bytes:
    """The picture upright and within 512 pixels a side: JPEG, or PNG where it is transparent.

    Raises `PIL.UnidentifiedImageError` when the bytes are no picture.
    """
    with Image.open(BytesIO(image)) as opened:
        return encoded(upright(opened), SIDE_PX_MAX).data
