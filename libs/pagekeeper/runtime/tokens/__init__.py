"""Token counts as the model's provider makes them, without a network.

`encodings` counts a text. `families` chooses the encoding of a model and states its accuracy. `requests` counts a chat
request around its texts, and `media` counts pictures and sound.
"""

from pagekeeper.runtime.tokens.encodings import (
    SLICE_CHARS_MAX,
    EncodingName,
    RanksDiffer,
    TiktokenTokenizer,
    Tokenizer,
    read_ranks,
    tokenizer,
)
from pagekeeper.runtime.tokens.families import EXACT_PERCENT, FOREIGN_MARGIN_PERCENT, ModelTokens, family_of, for_model
from pagekeeper.runtime.tokens.requests import MESSAGE_TOKENS, REPLY_TOKENS, count_messages, count_tools

__all__ = [
    "EXACT_PERCENT",
    "FOREIGN_MARGIN_PERCENT",
    "MESSAGE_TOKENS",
    "REPLY_TOKENS",
    "SLICE_CHARS_MAX",
    "EncodingName",
    "ModelTokens",
    "RanksDiffer",
    "TiktokenTokenizer",
    "Tokenizer",
    "count_messages",
    "count_tools",
    "family_of",
    "for_model",
    "read_ranks",
    "tokenizer",
]
