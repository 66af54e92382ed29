"""The session log: one ordered, durable sequence of records per session, appended only by compare-and-append.

`port` says what the log promises, `nats_log` keeps the promise on JetStream, `memory_log` in memory, and `faulty_log`
breaks it on purpose for simulations. Only this package and `pagekeeper.runtime.queue` import `nats`, and both only
through `connection`: what nats-py gets wrong is hidden there, once.
"""
