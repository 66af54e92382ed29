"""Families of models that share a tokenizer: the encoding that counts for a family, its margin of error, and the form
of requests that its provider takes.

OpenAI's models are counted exactly. For all other models an encoding stands in, with a margin that is stated beside its
source. Reports of a provider on a session's prompts correct the margin (`pagekeeper.core.usage`).
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from pagekeeper.core.tools import ToolFormat
from pagekeeper.core.usage import ProviderUsage, corrected_percent
from pagekeeper.runtime.tokens.encodings import EncodingName, Tokenizer, tokenizer

EXACT_PERCENT: Final = 100
FOREIGN_MARGIN_PERCENT: Final = 160
"""For a model of which nothing is known: what is stated for Claude, the family that o200k_base counts worst."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a tokenizer. `pattern` finds it in a name; see `family_of`."""

    name: str
    pattern: str
    encoding: EncodingName
    margin_percent: int
    source: str
    """Where the margin comes from."""
    instructions_role: str = "system"
    """The role of a message of instructions: `developer` is known by OpenAI alone."""
    tool_format: ToolFormat = ToolFormat.FUNCTION
    """The form of a tool's definition at the provider's own API."""


_O200K, _CL100K = EncodingName.O200K_BASE, EncodingName.CL100K_BASE

FAMILIES: Final = (
    Family(
        "openai-o200k",
        r"(?:(?:chat)?gpt-4o|gpt-4\.[15]|gpt-5(?:\.\d+)?|gpt-oss|o[134])(?![0-9a-z.])",
        _O200K,
        EXACT_PERCENT,
        "tiktoken is the models' own tokenizer",
        instructions_role="developer",
    ),
    Family(
        "openai-cl100k",
        r"(?:gpt-4|gpt-3\.?5)(?![0-9a-z.])",
        _CL100K,
        EXACT_PERCENT,
        "tiktoken is the models' own tokenizer",
        instructions_role="developer",
    ),
    Family(
        "claude-4.7",
        r"claude-(?:[a-z]+-)?(?:4[.-][7-9]|[5-9])(?!\d)",
        _O200K,
        216,
        "Anthropic says that the tokenizer of these takes up to 35 % more than the one before; on top of that one's",
        tool_format=ToolFormat.ANTHROPIC,
    ),
    Family(
        "claude",
        r"claude",
        _O200K,
        160,
        "no tokenizer is published; users of other proxies found 1.4 times o200k's count on ordinary text, and more",
        tool_format=ToolFormat.ANTHROPIC,
    ),
    Family(
        "gemini",
        r"(?:gemini|gemma)",
        _O200K,
        150,
        "not measured: 256k pieces are more than o200k has, but each digit is a token, where o200k takes three at once",
        tool_format=ToolFormat.GEMINI,
    ),
    Family(
        "llama-2",
        r"(?:(?:meta-)?llama-?2|codellama|tinyllama|vicuna|(?:open-)?mi(?:stral-7b|xtral)|phi-?3)",
        _CL100K,
        190,
        "measured against Llama 2's tokenizer: 1.35 times cl100k's count over the conversation that ships, 1.5 on"
        " Japanese, 1.9 on digits and emoji",
    ),
    Family(
        "llama",
        r"(?:meta-)?llama",
        _CL100K,
        120,
        "not measured: Meta built it from cl100k_base, whose pieces it keeps and adds 28k to for other languages",
    ),
    Family(
        "qwen",
        r"(?:qwen|qwq|qvq)",
        _CL100K,
        150,
        "not measured: built from cl100k_base, but each digit is a token, where cl100k takes three at once",
    ),
    Family(
        "mistral",
        r"(?:mistral|ministral|magistral|codestral|devstral|pixtral|voxtral)",
        _CL100K,
        150,
        "not measured: 131k pieces split as tiktoken does, but each digit is a token",
    ),
    Family(
        "deepseek",
        r"deepseek",
        _CL100K,
        140,
        "not measured: 128k pieces, split as cl100k does with up to three digits at once",
    ),
)
"""The first whose pattern stands at the beginning of a name or behind a provider's prefix (`openai/gpt-4o`,
`ft:gpt-4o:team`, `us.anthropic.claude-...`). An OpenAI version that is not listed is not assumed to count alike."""

OTHER: Final = Family(
    "other", "", _O200K, FOREIGN_MARGIN_PERCENT, "not measured: what is stated for Claude, whose text costs the most"
)

_PATTERNS: Final = tuple(
    (re.compile(rf"(?:^|[/:]|anthropic\.|meta\.|mistral\.|deepseek\.|qwen\.)(?:{family.pattern})"), family)
    for family in FAMILIES
)


@dataclass(frozen=True, slots=True)
class ModelTokens:
    """How to count for one model."""

    family: str
    tokenizer: Tokenizer
    margin_percent: int
    """The model's own count is at most this many percent of the tokenizer's; 100 is exact."""
    instructions_role: str = "system"
    tool_format: ToolFormat = ToolFormat.FUNCTION
    """See `Family`."""

    def countable(self, limit_tokens: int) -> int:
        """How many of the tokenizer's tokens fit where the model allows `limit_tokens` of its own."""
        return limit_tokens * 100 // self.margin_percent

    def counted_by_model(self, tokens: int) -> int:
        """The most that the model counts where the tokenizer counts `tokens`."""
        return -(-tokens * self.margin_percent // 100)

    def corrected(self, usage: ProviderUsage | None) -> "ModelTokens":
        """The same with the margin that a session's reports of usage lead to."""
        return replace(self, margin_percent=corrected_percent(self.margin_percent, usage))


def family_of(model: str) -> Family:
    """The family of `model`, a provider's name for it."""
    name = model.lower()
    return next((family for pattern, family in _PATTERNS if pattern.search(name)), OTHER)


def for_model(model: str) -> ModelTokens:
    """How to count for `model`. A model that no family knows gets FOREIGN_MARGIN_PERCENT."""
    family = family_of(model)
    return ModelTokens(
        family.name, tokenizer(family.encoding), family.margin_percent, family.instructions_role, family.tool_format
    )
