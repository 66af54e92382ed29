"""Films for tests, made by the encoders of the extra `media`."""

from fractions import Fraction
from io import BytesIO

import pytest

av = pytest.importorskip("av")
numpy = pytest.importorskip("numpy")

FPS = 10


def film(*shades: int, seconds: int = 2) -> bytes:
    """A film of one scene for each shade of grey."""
    data = BytesIO()
    with av.open(data, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = FPS // 2
        stream.time_base = Fraction(1, FPS)
        for shade in shades:
            for _ in range(seconds * FPS):
                frame = av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), shade, dtype="uint8"), format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return data.getvalue()
