"""The memory as objects that an application holds in its own process, by the guide's names.

Thin faces: they keep what the application is shown (pydantic models, times, statistics) and leave accounting, packing,
eviction keys, compression and search to the pure core around this package. The core never imports it; applications
import its names from `pagekeeper.memory`.
"""
