"""How many tokens a text is taken for, where no tokenizer is at hand."""

from typing import Final

CHARS_PER_TOKEN: Final = 4


def estimated_tokens(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN
