"""Embeddings of texts from the word vectors of the `wordllama` wheel, without a model and without a network.

The embedding of a text is the mean of its tokens' vectors. The wheel's own code looks for newer files on the network,
so only the wheel's data is used: the weights (32,000 rows of 256 numbers) and the tokenizer are read from where the
wheel is installed.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from pagekeeper.core.embedding import Floats

_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
_LENGTH_BYTES: Final = 8
"""A safetensors file begins with the length of its JSON header."""


class EmbedderUnavailable(Exception):
    """The wheel is not installed, or its files are not those that are read here."""


class StaticEmbedder:
    """Deterministic. The weights are mapped, so processes of one machine share them."""

    def __init__(self) -> None:
        """Raises EmbedderUnavailable."""
        folder = _folder()
        self._weights = _mapped(folder / _WEIGHTS)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def dimensions(self) -> int:
        return int(self._weights.shape[1])

    def embed(self, texts: Sequence[str]) -> Floats:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, encoded in enumerate(self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            if encoded.ids:
                vector = self._weights[encoded.ids].mean(axis=0, dtype=np.float32)
                vectors[row] = vector / max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
        return vectors


def _folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderUnavailable("wordllama is not installed, whose word vectors are read")
    return Path(spec.submodule_search_locations[0])


def _mapped(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.float16]]:
    """The one tensor of a safetensors file."""
    if not path.is_file():
        raise EmbedderUnavailable(f"{path.name} is not in the installed wordllama")
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(header_bytes))
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    if len(tensors) != 1 or tensors[0]["dtype"] != "F16":
        raise EmbedderUnavailable(f"{path.name} has another shape than expected")
    offset = _LENGTH_BYTES + header_bytes + tensors[0]["data_offsets"][0]
    return np.memmap(path, np.float16, mode="r", offset=offset, shape=tuple(tensors[0]["shape"]))
