"""Replaying a conversation through the public API, and showing a person and a program what happened."""
