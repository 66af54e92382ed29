"""The public API: identity, validation, prompt assembly, tool calls. It writes nothing to the log itself."""
