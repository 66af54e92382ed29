"""What a service needs to run: the log, blobs, queues, RPC, identity, errors, logs and settings.

Everything that does I/O for the platform goes through here. It knows the transport and the stores, and nothing of
pages: what a page is, and what may happen to it, is decided in `pagekeeper.memory`.
"""
