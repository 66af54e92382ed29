"""Conversations to replay: the generated default one, and loaders for files of others."""
