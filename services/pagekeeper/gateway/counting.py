"""Counting for the model that a prompt is for, with what its provider reported for the session so far."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pagekeeper.core.assembly import AssembledChat
from pagekeeper.core.lines import line_tokens
from pagekeeper.core.usage import ProviderUsage
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.tokens import EXACT_PERCENT, ModelTokens, Tokenizer, for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

REMEMBERED_COUNTS_MAX: Final = 65_536
REMEMBERED_TEXT_CHARS_MAX: Final = 4_096

_USAGE: Final = codec_of(ProviderUsage)

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Counting:
    """How to count for one model."""

    model: ModelTokens
    count: Count
    recount: bool
    """The session's pages were counted by another tokenizer."""

    def of_line(self, line: str, counted_tokens: int) -> int:
        """The tokens of a page's line, which the session counted as `counted_tokens`."""
        return self.count(line) if self.recount else line_tokens(line, counted_tokens, self.count)

    def corrected(self, reported: Iterable[session_pb2.ProviderUsage]) -> "Counting":
        """The same with the margin that the session's reports of usage lead to."""
        for usage in reported:
            if usage.family == self.model.family:
                return replace(self, model=self.model.corrected(_USAGE.decode(usage)))
        return self


@lru_cache(maxsize=16)
def counting_for(model: str, session_model: str) -> Counting:
    tokens = for_model(model)
    recount = tokens.tokenizer.name != for_model(session_model).tokenizer.name
    return Counting(tokens, _remembering(tokens.tokenizer), recount)


def _remembering(tokenizer: Tokenizer) -> Count:
    """Counts short texts once: a prompt asks for the same ones at every call."""
    remembered = lru_cache(maxsize=REMEMBERED_COUNTS_MAX)(tokenizer.count)

    def count(text: str) -> int:
        return remembered(text) if len(text) <= REMEMBERED_TEXT_CHARS_MAX else tokenizer.count(text)

    return count


def tokens_message(chat: AssembledChat, model: ModelTokens, budget_tokens: int) -> pb.PromptTokens:
    """The parts; where the model's tokenizer is not known, with the margin, which is added to framing."""
    tokens = chat.tokens
    total = model.counted_by_model(tokens.total)
    return pb.PromptTokens(
        total=total,
        budget=budget_tokens,
        rules=tokens.rules,
        context=tokens.context,
        manifest=tokens.manifest,
        input=tokens.input,
        tools=tokens.tools,
        framing=tokens.framing + total - tokens.total,
        exact=model.margin_percent == EXACT_PERCENT,
        counted=tokens.total,
        margin_percent=model.margin_percent,
    )
