"""Models whose JSON stands in a prompt. Their strings come from pages, and cannot act as the prompt's structure."""

from typing import Any

from pagekeeper.core.escape import guard_json
from pagekeeper.memory.models.strict import StrictModel


class GuardedModel(StrictModel):
    """JSON of equal meaning, without a tag, page header, citation or control token in any string.

    Fields that are None are left out: each would cost tokens in every prompt.
    """

    def model_dump_json(self, **options: Any) -> str:  # noqa: ANN401 - pydantic's options, handed on
        return guard_lines(super().model_dump_json(**{"exclude_none": True, **options}))

    def to_json(self, indent: int | None = None) -> str:
        return self.model_dump_json(indent=indent)


def guard_lines(json_text: str) -> str:
    """`guard_json` of indented JSON. A line break in JSON stands between lexemes, never in a string."""
    return "\n".join([guard_json(line) for line in json_text.split("\n")])
