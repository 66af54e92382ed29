"""Background work: items that somebody will carry out, at least once, or that end where an operator finds them.

`port` says what the queue promises, and `nats_queue` keeps the promise on JetStream.
"""
