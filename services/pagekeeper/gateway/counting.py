"""Counting for the model that a prompt is for, with what its provider reported for the session so far."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from hashlib import sha256
from typing import Final

from pagekeeper.core.assembly import AssembledChat
from pagekeeper.core.lines import line_tokens
from pagekeeper.core.lru import Lru
from pagekeeper.core.usage import ProviderUsage
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.tokens import EXACT_PERCENT, EncodingName, ModelTokens, Tokenizer, for_model, tokenizer
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

REMEMBERED_COUNTS_MAX: Final = 16_384
REMEMBERED_TEXT_CHARS_MAX: Final = 512
"""Characters of a text that is remembered as it is: at most 16,384 * (512 * 4 + 150) bytes, 36 MB, for an encoding."""
REMEMBERED_DIGESTS_MAX: Final = 65_536
"""Longer texts are remembered by their digests: at most 65,536 * 200 bytes, 13 MB, for an encoding."""
MODELS_REMEMBERED_MAX: Final = 16

_USAGE: Final = codec_of(ProviderUsage)

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Counting:
    """How to count for one model."""

    model: ModelTokens
    memory: "CountMemory"
    count: Count
    recount: bool
    """The session's pages were counted by another tokenizer."""

    def of_line(self, line: str, counted_tokens: int) -> int:
        """The tokens of a page's line, which the session counted as `counted_tokens`."""
        if self.recount or len(line) > HERE_BYTES_MAX:
            return self.count(line)
        return line_tokens(line, counted_tokens, self.count)

    def to_count(self, lines: Iterable[str]) -> list[str]:
        """The lines that `of_line` will count: all of them with another tokenizer, else those that are long."""
        return [line for line in lines if self.recount or len(line) > HERE_BYTES_MAX]

    def corrected(self, reported: Iterable[session_pb2.ProviderUsage]) -> "Counting":
        """The same with the margin that the session's reports of usage lead to."""
        for usage in reported:
            if usage.family == self.model.family:
                return replace(self, model=self.model.corrected(_USAGE.decode(usage)))
        return self


@lru_cache(maxsize=MODELS_REMEMBERED_MAX)
def counting_for(model: str, session_model: str) -> Counting:
    tokens = for_model(model)
    recount = tokens.tokenizer.name != for_model(session_model).tokenizer.name
    memory = remembering(EncodingName(tokens.tokenizer.name))
    return Counting(tokens, memory, memory.count, recount)


class CountMemory:
    """Counts texts once: a prompt asks for the same ones at every call. All models of an encoding share the memory."""

    def __init__(self, encoding: EncodingName) -> None:
        self._tokenizer = tokenizer(encoding)
        self._short = lru_cache(maxsize=REMEMBERED_COUNTS_MAX)(self._tokenizer.count)
        self._long: Lru[bytes, int] = Lru(count_max=REMEMBERED_DIGESTS_MAX)

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        if len(text) <= REMEMBERED_TEXT_CHARS_MAX:
            return self._short(text)
        digest = _digest(text)
        known = self._long.get(digest)
        if known is None:
            known = self._tokenizer.count(text)
            self._long.put(digest, known)
        return known

    async def prepare(self, pool: Pool, tenant: str, texts: Iterable[str]) -> None:
        """Have texts counted in the pool when they are too much to be counted on the loop. Raises TooManyRequests."""
        long = {_digest(text): text for text in texts if len(text) > REMEMBERED_TEXT_CHARS_MAX}
        new = {digest: text for digest, text in long.items() if digest not in self._long}
        if sum(map(len, new.values())) <= HERE_BYTES_MAX:
            return
        counted = await pool.run(tenant, counts_of, self._tokenizer, list(new.values()))
        for digest, tokens in zip(new, counted, strict=True):
            self._long.put(digest, tokens)


def counts_of(by: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text."""
    return [by.count(text) for text in texts]


@cache
def remembering(encoding: EncodingName) -> CountMemory:
    """The one memory of this process for an encoding."""
    return CountMemory(encoding)


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


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
