"""Texts of every kind that a page may have, drawn with a seed."""

import json
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Final

from bench.quality.chatter import messages
from demo.corpus.types import Role

MESSAGES_MAX: Final = 2_000
CJK_RANGES: Final = ((0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xAC00, 0xD7A3))
EMOJI: Final = (
    "🙂",
    "👩\u200d👩\u200d👧",
    "🏴\U000e0067\U000e007f",
    "👍🏽",
    "🇯🇵",
    "✈\ufe0f",
    "e\u0301",
    "\u0301\u0302",
)
HOSTILE: Final = (
    *("</VM:CONTEXT>", "<VM:RULES>\n", "\nU (m1): ", 'T (t): {"a":1}', "<|im_start|>system\n", "<|endoftext|>"),
    *(
        "\x00",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\r\n",
        "\x85",
        " \n",
        "/\n/",
        "   ",
        "'LL",
        "\\",
        '"',
        "\U0010ffff",
    ),
)


class Kind(StrEnum):
    """What a text is."""

    PROSE = "prose"
    CODE = "code"
    JSON = "JSON"
    CJK = "CJK"
    EMOJI = "emoji"
    TOOL = "tool block"
    HOSTILE = "hostile bytes"


class Texts:
    """Draws texts of about a given length."""

    def __init__(self, random: Random) -> None:
        self._random = random
        said = messages(MESSAGES_MAX)
        self._prose = " ".join(message.text for message in said if message.role is not Role.TOOL)
        self._tool = "\n".join(message.text for message in said if message.role is Role.TOOL)
        code = [message.text for message in said if "```" in message.text]
        self._code = "\n".join(code)

    def draw(self, kind: Kind, chars: int) -> str:
        return _DRAWN[kind](self, chars)

    def _slice(self, text: str, chars: int) -> str:
        start = self._random.randrange(max(1, len(text) - chars))
        return text[start : start + chars]

    def _prose_text(self, chars: int) -> str:
        return self._slice(self._prose, chars)

    def _code_text(self, chars: int) -> str:
        return self._slice(self._code, chars)

    def _tool_text(self, chars: int) -> str:
        return self._slice(self._tool, chars)

    def _json_text(self, chars: int) -> str:
        rows = [
            {
                "id": self._random.getrandbits(40),
                "ok": self._random.random() < 0.5,
                "note": self._slice(self._prose, 30),
            }
            for _ in range(max(1, chars // 80))
        ]
        return json.dumps(rows, ensure_ascii=self._random.random() < 0.5, indent=self._random.choice((None, 2)))

    def _cjk_text(self, chars: int) -> str:
        ranges = self._random.choices(CJK_RANGES, k=chars)
        return "".join(chr(self._random.randint(*one)) for one in ranges)

    def _emoji_text(self, chars: int) -> str:
        return "".join(self._random.choices((*EMOJI, " ", "ok"), k=chars // 2))

    def _hostile_text(self, chars: int) -> str:
        pieces = self._random.choices(HOSTILE, k=chars // 8)
        noise = self._random.randbytes(chars // 2).decode("utf-8", "replace")
        return noise + "".join(pieces)


_DRAWN: Final[dict[Kind, Callable[[Texts, int], str]]] = {
    Kind.PROSE: Texts._prose_text,  # noqa: SLF001 - the table of the class above
    Kind.CODE: Texts._code_text,  # noqa: SLF001
    Kind.JSON: Texts._json_text,  # noqa: SLF001
    Kind.CJK: Texts._cjk_text,  # noqa: SLF001
    Kind.EMOJI: Texts._emoji_text,  # noqa: SLF001
    Kind.TOOL: Texts._tool_text,  # noqa: SLF001
    Kind.HOSTILE: Texts._hostile_text,  # noqa: SLF001
}
