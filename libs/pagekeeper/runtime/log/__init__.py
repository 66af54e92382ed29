"""The session log: one ordered, durable sequence of records per session, appended only by compare-and-append.

`port` says what the log promises, `nats_log` keeps the promise on JetStream, `memory_log` in memory, and `faulty_log`
breaks it on purpose for simulations. Only this package and `pagekeeper.runtime.queue` know `nats`, and what it gets
wrong is hidden once, in `client` and `connection`.
"""
