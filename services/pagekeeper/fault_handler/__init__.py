"""Bringing pages in: look up, load, admit; and the making of lower representations."""
