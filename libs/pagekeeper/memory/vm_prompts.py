"""The rules of a mode, the two tools and the developer message: views over `core.prompt` and `core.tools`.

Invariant: text between two tags of a message neither opens nor closes a tag.
"""

from typing import Any, Final

from pydantic import Field, NonNegativeInt

from pagekeeper.core import prompt, tools
from pagekeeper.core.escape import compact_json, guard_tags
from pagekeeper.core.prompt import (
    CONTEXT_CLOSES,
    CONTEXT_OPENS,
    VM_PASSIVE_PROMPT,
    VM_RELAXED_PROMPT,
    VM_STRICT_PROMPT,
)
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import ToolType, VMMode
from pagekeeper.memory.models.strict import StrictModel, guard_lines

__all__ = [
    "PAGE_FAULT_TOOL",
    "SEARCH_PAGES_TOOL",
    "VM_PASSIVE_PROMPT",
    "VM_RELAXED_PROMPT",
    "VM_STRICT_PROMPT",
    "ToolDefinition",
    "ToolFunction",
    "ToolParameter",
    "ToolParameters",
    "build_vm_developer_message",
    "get_prompt_for_mode",
    "get_vm_tools",
    "get_vm_tools_as_dicts",
]


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
    """A tool as chat completions have it."""

    type: ToolType = ToolType.FUNCTION
    function: ToolFunction


get_prompt_for_mode = checked(prompt.get_prompt_for_mode)

PAGE_FAULT_TOOL: Final = ToolDefinition.model_validate(tools.PAGE_FAULT_TOOL.as_dict())
SEARCH_PAGES_TOOL: Final = ToolDefinition.model_validate(tools.SEARCH_PAGES_TOOL.as_dict())


@checked
def get_vm_tools(include_search: bool = True) -> list[ToolDefinition]:  # noqa: FBT001, FBT002 - the guide's signature
    return [PAGE_FAULT_TOOL, SEARCH_PAGES_TOOL] if include_search else [PAGE_FAULT_TOOL]


@checked
def get_vm_tools_as_dicts(include_search: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002 - as above
    return [tool.model_dump(mode="json", exclude_none=True) for tool in get_vm_tools(include_search=include_search)]


@checked
def build_vm_developer_message(
    mode: VMMode,
    manifest_json: str,
    context: str,
    system_prompt: str = "",
    max_faults_per_turn: NonNegativeInt | None = None,
) -> str:
    """The developer message: `system_prompt`, the rules of `mode`, the manifest, the context.

    `context`: lines of `ContextPacker`, with or without their tags. `max_faults_per_turn`: a limit for the
    rules to state; the manifest's policies state theirs in any case.
    """
    lines = context
    if context.startswith(CONTEXT_OPENS) and context.endswith(CONTEXT_CLOSES):
        lines = context[len(CONTEXT_OPENS) : -len(CONTEXT_CLOSES)]
    manifest = guard_tags(manifest_json) if compact_json(manifest_json) is None else guard_lines(manifest_json)
    message = prompt.build_vm_developer_message(mode, manifest, guard_tags(lines), system_prompt)
    if max_faults_per_turn is None or mode is VMMode.PASSIVE:
        return message
    rules = get_prompt_for_mode(mode)
    return message.replace(rules, f"{rules}\nA turn has a limit of page_fault calls ({max_faults_per_turn}).", 1)
