"""Every family says who counts for it and why that margin; a name belongs to one of them."""

from collections import Counter

import pytest

from pagekeeper.core.tools import ToolFormat
from pagekeeper.core.usage import ProviderUsage
from pagekeeper.runtime.tokens import EXACT_PERCENT, family_of, for_model
from pagekeeper.runtime.tokens.families import FAMILIES, OTHER


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o", "openai-o200k"),
        ("gpt-4-turbo", "openai-cl100k"),
        ("claude-3-5-sonnet-20241022", "claude"),
        ("claude-opus-4-20250514", "claude"),
        ("claude-sonnet-4-5-20250929", "claude"),
        ("anthropic/claude-opus-4.1", "claude"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude"),
        ("claude-opus-4-7", "claude-4.7"),
        ("openrouter/anthropic/claude-opus-4.7", "claude-4.7"),
        ("claude-sonnet-5", "claude-4.7"),
        ("gemini-2.5-pro", "gemini"),
        ("google/gemma-3-27b-it", "gemini"),
        ("llama3.1:8b", "llama"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
        ("meta.llama3-70b-instruct-v1:0", "llama"),
        ("llama-2-7b-chat", "llama-2"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "llama-2"),
        ("mistral-large-latest", "mistral"),
        ("codestral-2501", "mistral"),
        ("Qwen/Qwen3-32B", "qwen"),
        ("qwq-32b", "qwen"),
        ("deepseek-chat", "deepseek"),
        ("deepseek-ai/DeepSeek-R1", "deepseek"),
        ("grok-4", "other"),
        ("", "other"),
    ],
)
def test_a_models_family(model: str, family: str) -> None:
    assert family_of(model).name == family


def test_every_margin_has_its_source_and_every_family_its_name() -> None:
    assert all(family.source and family.margin_percent >= EXACT_PERCENT for family in (*FAMILIES, OTHER))
    assert set(Counter(family.name for family in (*FAMILIES, OTHER)).values()) == {1}


def test_no_foreign_family_claims_to_be_exact() -> None:
    exact = {family.name for family in (*FAMILIES, OTHER) if family.margin_percent == EXACT_PERCENT}
    assert exact == {"openai-o200k", "openai-cl100k"}


def test_reports_move_the_margin_and_nothing_else() -> None:
    stated = for_model("claude-sonnet-4")
    corrected = stated.corrected(ProviderUsage("claude", 8, 1_000, 1_250))
    assert (corrected.family, corrected.tokenizer) == (stated.family, stated.tokenizer)
    assert corrected.margin_percent == 135
    assert stated.corrected(None) == stated


@pytest.mark.parametrize(
    ("model", "role", "tool_format"),
    [
        ("gpt-4o", "developer", ToolFormat.FUNCTION),
        ("openai/gpt-4", "developer", ToolFormat.FUNCTION),
        ("claude-sonnet-4-5", "system", ToolFormat.ANTHROPIC),
        ("us.anthropic.claude-opus-4-8", "system", ToolFormat.ANTHROPIC),
        ("gemini-3-pro", "system", ToolFormat.GEMINI),
        ("mistral-large", "system", ToolFormat.FUNCTION),
        ("meta-llama/llama-3-70b", "system", ToolFormat.FUNCTION),
        ("somebody-s-own", "system", ToolFormat.FUNCTION),
    ],
)
def test_a_request_has_the_form_that_the_models_provider_takes(model: str, role: str, tool_format: ToolFormat) -> None:
    tokens = for_model(model)
    assert (tokens.instructions_role, tokens.tool_format) == (role, tool_format)
