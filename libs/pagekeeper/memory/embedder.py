"""The word vectors that recall compares meanings with: a stack's, read once a process."""

from functools import cache

from pagekeeper.core.embedding import Embedder
from pagekeeper.runtime.embedder import StaticEmbedder


@cache
def shared_embedder() -> Embedder:
    """Raises EmbedderUnavailable when what `pip install pagekeeper` brings is not all there."""
    return StaticEmbedder()
