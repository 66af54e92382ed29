"""The session log: one ordered, durable sequence of records per session, appended only by compare-and-append.

`port` says what the log promises, and `nats_log` keeps the promise on JetStream. Only this package and
`pagekeeper.runtime.queue` import `nats`; `client` and `connection` hide the defects of that library.
"""
