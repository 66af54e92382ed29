"""Tokens of a chat request beside its texts: frames of messages, definitions of tools, pictures and sound."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pagekeeper.runtime.tokens.encodings import Tokenizer
from pagekeeper.runtime.tokens.media import part_tokens

MESSAGE_TOKENS: Final = 3
"""OpenAI's frame around one message."""
NAME_TOKENS: Final = 1
"""Tokens of a message's name, beside the name's own text."""
REPLY_TOKENS: Final = 3
"""The beginning of the assistant's message, which primes every reply."""

# "How to count tokens with tiktoken", OpenAI cookbook: what a list of function definitions costs.
_FUNCTION_TOKENS: Final = {"o200k_base": 7, "cl100k_base": 10}
_PROPERTIES_TOKENS: Final = 3
_PROPERTY_TOKENS: Final = 3
_ENUM_TOKENS: Final = -3
_ENUM_ITEM_TOKENS: Final = 3
_TOOLS_END_TOKENS: Final = 12


def count_messages(counter: Tokenizer, messages: Sequence[Mapping[str, object]], model: str = "") -> int:
    """Tokens of Chat Completions `messages` with their frames and the primed reply.

    Pictures and sound among the content's parts cost what the provider of `model` publishes, and the most that any of
    them publishes when no model is named. Other values that are not strings (tool calls) count as compact JSON: no rule
    is published, and JSON has more tokens than the model is shown.
    """
    return sum(_count_message(counter, message, model) for message in messages) + REPLY_TOKENS


def _count_message(counter: Tokenizer, message: Mapping[str, object], model: str) -> int:
    values = (_count_value(counter, value, model) for value in message.values() if value is not None)
    return MESSAGE_TOKENS + (NAME_TOKENS if "name" in message else 0) + sum(values)


def _count_value(counter: Tokenizer, value: object, model: str) -> int:
    if isinstance(value, list):
        return sum(_count_part(counter, part, model) for part in value)
    return counter.count(_text(value))


def _count_part(counter: Tokenizer, part: object, model: str) -> int:
    if isinstance(part, Mapping):
        media_tokens = part_tokens(model, part)
        if media_tokens is not None:
            return media_tokens
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            return counter.count(str(part["text"]))
    return counter.count(_text(part))


def count_tools(counter: Tokenizer, tools: Sequence[Mapping[str, object]]) -> int:
    """Tokens of Chat Completions `tools` by the cookbook's formula; the parts of a schema that the formula does not
    know (nested objects, items, references) count as their compact JSON.
    """
    if not tools:
        return 0
    return sum(_count_tool(counter, tool) for tool in tools) + _TOOLS_END_TOKENS


def _count_tool(counter: Tokenizer, tool: Mapping[str, object]) -> int:
    function = tool.get("function")
    frame = _FUNCTION_TOKENS.get(counter.name, max(_FUNCTION_TOKENS.values()))
    if not isinstance(function, Mapping):
        return frame + counter.count(_text(tool))
    total = frame + counter.count(f"{_text(function.get('name', ''))}:{_sentence(function)}")
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping):
        total += _count_parameters(counter, parameters)
    return total


def _count_parameters(counter: Tokenizer, parameters: Mapping[str, object]) -> int:
    total = _count_rest(counter, parameters, {"type", "properties", "required", "additionalProperties"})
    properties = parameters.get("properties")
    if isinstance(properties, Mapping) and properties:
        total += _PROPERTIES_TOKENS
        total += sum(_count_property(counter, key, schema) for key, schema in properties.items())
    return total


def _count_property(counter: Tokenizer, key: str, schema: object) -> int:
    if not isinstance(schema, Mapping):
        return _PROPERTY_TOKENS + counter.count(f"{key}:{_text(schema)}")
    total = _PROPERTY_TOKENS + counter.count(f"{key}:{_text(schema.get('type', ''))}:{_sentence(schema)}")
    choices = schema.get("enum")
    if isinstance(choices, Sequence):
        total += _ENUM_TOKENS + sum(_ENUM_ITEM_TOKENS + counter.count(_text(choice)) for choice in choices)
    return total + _count_rest(counter, schema, {"type", "description", "enum"})


def _count_rest(counter: Tokenizer, schema: Mapping[str, object], known: set[str]) -> int:
    rest = {key: value for key, value in schema.items() if key not in known}
    return counter.count(_text(rest)) if rest else 0


def _sentence(described: Mapping[str, object]) -> str:
    return _text(described.get("description", "")).removesuffix(".")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
