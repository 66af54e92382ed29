"""The tools of a prompt: those of the memory in the form that the model's provider takes, and the application's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from pagekeeper.core.lru import Lru
from pagekeeper.core.tools import ToolFormat, formatted, get_vm_tools_as_dicts
from pagekeeper.core.wellformed import read_json
from pagekeeper.runtime.tokens import ModelTokens, count_tools
from pagekeeper.v1 import memory_service_pb2 as pb

COUNTED_MAX: Final = 4_096
"""Sets of tools whose tokens are remembered: a digest and a number each."""

_VM_TOOLS: Final = get_vm_tools_as_dicts()
_FORMAT_OF: Final[Mapping[int, ToolFormat]] = {
    pb.TOOL_FORMAT_FUNCTION: ToolFormat.FUNCTION,
    pb.TOOL_FORMAT_ANTHROPIC: ToolFormat.ANTHROPIC,
    pb.TOOL_FORMAT_GEMINI: ToolFormat.GEMINI,
}


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools as a request has them. `tokens` counts all of them."""

    definitions: tuple[dict[str, Any], ...]
    tokens: int


class PromptTools:
    """Makes the tools of prompts. Tokens are counted once: an application sends the same tools with each request."""

    def __init__(self) -> None:
        self._tokens: Lru[bytes, int] = Lru(count_max=COUNTED_MAX)

    def tools(self, request: pb.AssemblePromptRequest, model: ModelTokens, *, passive: bool) -> Tools:
        """The tools of a prompt. A `passive` model has none of the memory's."""
        tool_format = _FORMAT_OF.get(request.tool_format, model.tool_format)
        own = [] if passive else formatted(_VM_TOOLS, tool_format)
        definitions = (*own, *(read_json(text) for text in request.extra_tools_json))
        digest = sha256(repr((passive, tool_format, model.tokenizer.name)).encode())
        for text in request.extra_tools_json:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
        tokens = self._tokens.get(digest.digest())
        if tokens is None:
            tokens = count_tools(model.tokenizer, definitions)
            self._tokens.put(digest.digest(), tokens)
        return Tools(definitions, tokens)
