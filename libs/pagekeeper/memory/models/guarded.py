"""Models that a model reads as JSON: strings in them that came from pages cannot act as the prompt's structure."""

from typing import Any

from pagekeeper.core.escape import guard_json
from pagekeeper.memory.models.strict import StrictModel


class GuardedModel(StrictModel):
    """A model whose JSON holds no tag, page header, citation or control token of Pagekeeper in any string.

    Fields that are not set are left out: they would be paid for in every prompt.
    """

    def model_dump_json(self, **options: Any) -> str:  # noqa: ANN401 - pydantic's options, handed on
        return guard_lines(super().model_dump_json(**{"exclude_none": True, **options}))

    def to_json(self, indent: int | None = None) -> str:
        return self.model_dump_json(indent=indent)


def guard_lines(json_text: str) -> str:
    """`guard_json` for JSON that may be indented: a line break stands between its lexemes only, never in a string."""
    return "\n".join([guard_json(line) for line in json_text.split("\n")])
