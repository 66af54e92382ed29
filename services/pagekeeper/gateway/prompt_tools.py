"""The tools of a prompt: those of the memory in the form that the model's provider takes, and the application's own.

Tools are JSON text from end to end: parsed once, when they are new, to be checked and counted. Parsed values take many
times the memory of their text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from sys import getsizeof
from typing import Any, Final

from pagekeeper.core.assembly import canonical_json
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.lru import Lru
from pagekeeper.core.tools import ToolFormat, formatted, get_vm_tools_as_dicts
from pagekeeper.core.wellformed import read_json
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.tokens import ModelTokens, Tokenizer, count_tools
from pagekeeper.v1 import memory_service_pb2 as pb

KEPT_BYTES_MAX: Final = 32 * 2**20
"""Memory that remembered sets of tools take, over all tenants."""

_VM_TOOLS: Final = get_vm_tools_as_dicts()
_FORMAT_OF: Final[Mapping[int, ToolFormat]] = {
    pb.TOOL_FORMAT_FUNCTION: ToolFormat.FUNCTION,
    pb.TOOL_FORMAT_ANTHROPIC: ToolFormat.ANTHROPIC,
    pb.TOOL_FORMAT_GEMINI: ToolFormat.GEMINI,
}


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools as a request has them: a JSON list, the same in the canonical form that a prompt's digest is of, and the
    tokens of all.
    """

    compact: str
    canonical: str
    tokens: int

    @property
    def size_bytes(self) -> int:
        return getsizeof(self.compact) + getsizeof(self.canonical)


class PromptTools:
    """Makes the tools of prompts, and remembers them: an application sends the same tools with each request."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._made: Lru[bytes, Tools] = Lru(bytes_max=KEPT_BYTES_MAX, size_bytes=attrgetter("size_bytes"))

    async def tools(
        self, tenant: str, request: pb.AssemblePromptRequest, model: ModelTokens, *, passive: bool
    ) -> Tools:
        """The tools of a prompt. A `passive` model has none of the memory's. Raises InvalidField, TooManyRequests."""
        tool_format = _FORMAT_OF.get(request.tool_format, model.tool_format)
        digest, texts_bytes = sha256(repr((passive, tool_format, model.tokenizer.name)).encode()), 0
        for text in request.extra_tools_json:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
            texts_bytes += len(encoded)
        made = self._made.get(digest.digest())
        if made is not None:
            return made
        own, extra = () if passive else formatted(_VM_TOOLS, tool_format), tuple(request.extra_tools_json)
        if texts_bytes <= HERE_BYTES_MAX:
            made = make_tools(own, extra, model.tokenizer)
        else:
            made = await self._pool.run(tenant, make_tools, own, extra, model.tokenizer)
        if made.size_bytes <= KEPT_BYTES_MAX:
            self._made.put(digest.digest(), made)
        return made


def make_tools(own: Sequence[dict[str, Any]], extra: Sequence[str], tokenizer: Tokenizer) -> Tools:
    """Tools of the memory's definitions and the application's texts. Raises InvalidField."""
    definitions = (*own, *_definitions(extra))
    compact = json.dumps(definitions, ensure_ascii=False, separators=(",", ":"))
    return Tools(compact, canonical_json(definitions), count_tools(tokenizer, definitions))


def _definitions(texts: Sequence[str]) -> Iterable[dict[str, Any]]:
    for index, text in enumerate(texts):
        where = f"extra_tools_json[{index}]"
        try:
            tool = read_json(text)
        except ValueError as problem:
            raise InvalidField(where, f"must be a JSON object: {problem}") from problem
        if not isinstance(tool, dict):
            raise InvalidField(where, "must be a JSON object")
        yield tool
