"""gRPC, so that nobody else has to know it.

A service is a plain object whose public async methods are its RPCs in snake case, `(caller, request) -> response`.
`RpcServer` puts such an object behind a port; `remote` makes an object with the same methods that calls through a
channel, and `local` one that calls it in this process. Whoever depends on a service cannot tell which of them it has.
"""
