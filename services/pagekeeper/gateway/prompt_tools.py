"""The tools of a prompt: those of the memory in the form that the model's provider takes, and the application's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from pagekeeper.core.lru import Lru
from pagekeeper.core.tools import ToolFormat, formatted, get_vm_tools_as_dicts
from pagekeeper.core.wellformed import read_json
from pagekeeper.runtime.tokens import ModelTokens, count_tools
from pagekeeper.v1 import memory_service_pb2 as pb

KEPT_BYTES_MAX: Final = 32 * 2**20
"""Memory that remembered sets of tools take, over all tenants."""
PARSED_BYTES: Final = 24
"""Bytes that a byte of JSON takes as Python's values: 24 measured on an array of empty objects, 5 on schemas."""

OWN_BYTES: Final = 4_096
"""Bytes that the memory's own tools take in one form (2,537 measured), and an entry, rounded up."""

_VM_TOOLS: Final = get_vm_tools_as_dicts()
_FORMAT_OF: Final[Mapping[int, ToolFormat]] = {
    pb.TOOL_FORMAT_FUNCTION: ToolFormat.FUNCTION,
    pb.TOOL_FORMAT_ANTHROPIC: ToolFormat.ANTHROPIC,
    pb.TOOL_FORMAT_GEMINI: ToolFormat.GEMINI,
}


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools as a request has them. `tokens` counts all of them, `size_bytes` estimates the memory that they take."""

    definitions: tuple[dict[str, Any], ...]
    tokens: int
    size_bytes: int


class PromptTools:
    """Makes the tools of prompts, and remembers them: an application sends the same tools with each request."""

    def __init__(self) -> None:
        self._made: Lru[bytes, Tools] = Lru(bytes_max=KEPT_BYTES_MAX, size_bytes=attrgetter("size_bytes"))

    def tools(self, request: pb.AssemblePromptRequest, model: ModelTokens, *, passive: bool) -> Tools:
        """The tools of a prompt. A `passive` model has none of the memory's."""
        tool_format = _FORMAT_OF.get(request.tool_format, model.tool_format)
        digest, texts_bytes = sha256(repr((passive, tool_format, model.tokenizer.name)).encode()), 0
        for text in request.extra_tools_json:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
            texts_bytes += len(encoded)
        made = self._made.get(digest.digest())
        if made is None:
            own = [] if passive else formatted(_VM_TOOLS, tool_format)
            definitions = (*own, *(read_json(text) for text in request.extra_tools_json))
            tokens = count_tools(model.tokenizer, definitions)
            made = Tools(definitions, tokens, OWN_BYTES + PARSED_BYTES * texts_bytes)
            if made.size_bytes <= KEPT_BYTES_MAX:
                self._made.put(digest.digest(), made)
        return made
