"""Models that answer a prompt: a deterministic one without any weights, and any OpenAI-compatible endpoint."""
