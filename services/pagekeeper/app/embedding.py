"""The model behind recall that the settings name."""

from pagekeeper.core.embedding import Embedder, WordsAlone
from pagekeeper.runtime.embedder import EmbedderUnavailable, StaticEmbedder
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import RecallSettings


def open_embedder(settings: RecallSettings) -> Embedder:
    """Raises CannotStart when the model is not there: a replica that ranks otherwise than the others would be worse."""
    match settings.embedder:
        case "none":
            return WordsAlone()
        case "static":
            try:
                return StaticEmbedder()
            except EmbedderUnavailable as missing:
                raise CannotStart(f"PK_EMBEDDER is static, and {missing}") from missing
