"""Background work: items that somebody will carry out, at least once, or that end where an operator finds them.

`port` says what the queue promises; `nats_queue` keeps it on JetStream and `memory_queue` in memory.
"""
