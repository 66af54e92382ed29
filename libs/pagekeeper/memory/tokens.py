"""An estimate of a text's tokens for a program without a tokenizer: characters / 4."""

from typing import Final

CHARS_PER_TOKEN: Final = 4


def estimated_tokens(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN
