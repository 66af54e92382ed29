"""The runtime of a service: log, blobs, queues, RPC, identity, errors, telemetry and settings.

All I/O of the services goes through this package. The package knows the transport and the stores. `pagekeeper.core`
decides what a page is and what may happen to a page.
"""
