"""Tool definitions as chat completions have them."""

from typing import Any

from pydantic import Field

from pagekeeper.memory.models.enums import ToolType
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["ToolDefinition", "ToolFunction", "ToolParameter", "ToolParameters"]


class ToolParameter(StrictModel):
    """One argument, as JSON Schema has it."""

    type: str = "string"
    description: str | None = None
    enum: list[str] | None = None
    minimum: int | None = None
    maximum: int | None = None
    default: Any = None


class ToolParameters(StrictModel):
    type: str = "object"
    properties: dict[str, ToolParameter] = Field(default_factory=dict)
    required: list[str] = Field(default_factory=list)


class ToolFunction(StrictModel):
    name: str
    description: str
    parameters: ToolParameters


class ToolDefinition(StrictModel):
    type: ToolType = ToolType.FUNCTION
    function: ToolFunction
