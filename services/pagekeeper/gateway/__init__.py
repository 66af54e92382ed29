"""The public API: identity, validation, prompt assembly, tool calls. The gateway writes nothing to the log."""
