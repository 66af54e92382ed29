"""gRPC, so that nobody else has to know it.

A service is a plain object whose public async methods are its RPCs in snake case, `(caller, request) -> response`.
`RpcServer` puts such an object behind a port; `remote` makes an object with the same methods that calls through a
channel. So whoever depends on a service cannot tell whether it lives in this process.
"""
