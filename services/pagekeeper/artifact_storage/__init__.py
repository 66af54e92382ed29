"""Bytes: the object store of the platform, and the way of a page's bytes into it."""
