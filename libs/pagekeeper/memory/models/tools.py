"""Tool definitions as chat completions have them."""

from typing import Any

from pydantic import BaseModel, Field

from pagekeeper.memory.models.enums import ToolType


class ToolParameter(BaseModel):
    """One argument, as JSON Schema has it."""

    type: str = "string"
    description: str | None = None
    enum: list[str] | None = None
    minimum: int | None = None
    maximum: int | None = None
    default: Any = None


class ToolParameters(BaseModel):
    type: str = "object"
    properties: dict[str, ToolParameter] = Field(default_factory=dict)
    required: list[str] = Field(default_factory=list)


class ToolFunction(BaseModel):
    name: str
    description: str
    parameters: ToolParameters


class ToolDefinition(BaseModel):
    type: ToolType = ToolType.FUNCTION
    function: ToolFunction
