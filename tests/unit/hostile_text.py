"""Text that tries to be something else: what an attacker, a bad decoder or an unlucky page would put into a prompt."""

import json

from hypothesis import strategies as st

from pagekeeper.core.ids import ID

FRAGMENTS = (
    *"\"\\/<>[](){}:;,.?!|-_=+*#@~`'$%^&",
    *"\t\n\r\x00\x0b\x0c\x1b\x1c\x1d\x1e\x7f\x85\xa0\xad\u061c\u200b\u200c\u200d\u200e\u2028\u2029\u202e\u2066\ufeff",
    *("\u034f\u115f\u180e\u200f\u3164\uffa0", "\ufe00", "\ufe0e", "\ufe0f", "❤\ufe0f", "1\ufe0f\u20e3"),
    *("\x1b[31m", "\x1b[0m", "\\e[0m", "\\e", "\\<", "\\>", "\x1b]0;title\x07", "\x1b[?1049h", "\x9b31m"),
    *("\U000e0041", "\U000e0100", "\ud800", "\udfff", "\uff5c"),
    *(
        " ",
        "  ",
        "   \n",
        "\n\n",
        "\r\n",
        "\n ",
        "\n\t",
        " \n",
        "/\n/",
        "\n/",
        "//",
        "\\n",
        "\\\\",
        '\\"',
        "\\u{41}",
        "u{",
    ),
    *("<VM:", "</VM:CONTEXT>", "<vm:manifest_json>", "< / Vm :", "<VM:RULES>\n", "[ref:", "[ref: msg_001]", "[ REF :"),
    *("U (user:123):", "\nA (C01/1699.12 L1): ", "T (a@b.c untrusted):", "I (é+=~!#$%&*,;):"),
    *("U (msg_001):", "\nU (msg_001): ", "A (x L1 claim) : ", "? (m):", 'T (t): {"a":1}', "S(", "V", "J", "(msg_1)"),
    *("<|im_start|>", "<|endoftext|>", "<start_of_turn>", "[INST]", "[/INST]", "</s>", "<\uff5cend", "<bos>"),
    *("[TOOL_CALLS]", "[/TOOL_RESULTS]", "[THINK]", "<think>", "</think>", "<tool_call>", "\\[TOOL_CALLS]"),
    *(
        "n",
        "r",
        "u",
        "x41",
        "VM",
        "ref",
        "L1",
        "Hello",
        "WORLD",
        "don't",
        "I'LL",
        "snake_case",
        "CamelCase",
        "3.14",
        "0",
    ),
    *(
        "12345678901",
        "日本語",
        "한국어",
        "مرحبا",
        "e\u0301",
        "🙂",
        "👩\u200d👩\u200d👧",
        "🏴\U000e0067\U000e007f",
        "ǅ",
        "ʰ",
        "Ⅷ",
    ),
    *(
        "def f(x):\n    return x\n",
        '{"k": [1, 2]}',
        "- item\n",
        "```\n",
        "https://example.org/a?b=c#d",
        "C:\\new\\user",
    ),
)

hostile_texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join),
    st.text(max_size=60),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=16).map("".join),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | hostile_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_texts, inner, max_size=4),
    max_leaves=12,
)
json_documents = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    st.lists(json_values, max_size=4) | st.dictionaries(hostile_texts, json_values, max_size=4),
    st.sampled_from((None, 0, 2)),
    st.booleans(),
)

hostile_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_texts, inner, max_size=4),
    max_leaves=4,
)
"""What a tool gives back: half characters, NaN and infinities too."""
HOSTILE_JSON = ("1e999", "-1E999", "[1e400]", '{"a": NaN}', '["\\ud800"]', '{"\\udc00": 1}', "1" * 400, "[" * 9_000)
hostile_json_texts = st.one_of(
    hostile_values.map(lambda value: json.dumps({"v": value})),
    hostile_values.map(lambda value: json.dumps([value], ensure_ascii=False)),
    st.sampled_from(HOSTILE_JSON),
    json_documents,
    hostile_texts,
)
"""Texts that are, or claim to be, JSON."""


page_ids = st.from_regex(ID, fullmatch=True)
