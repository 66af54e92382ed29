"""The virtual memory itself: pages, the page table, the working set, eviction, packing, search and the session fold.

Pure: nothing in this package does I/O, reads a clock, draws a random number or imports a transport. The services fold
a session's log with it, and `pagekeeper.memory` holds it in a Python program.
"""
