"""Virtual memory for LLM context, as a pure library.

Pages, page table, working set, eviction, packing, search and the session fold. Nothing in this package does I/O,
reads a clock, draws a random number or imports a transport: the services fold the log with it, and an application
may use it in process.
"""
