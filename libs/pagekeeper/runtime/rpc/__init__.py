"""gRPC, hidden from all other packages.

A service is a plain object whose public async methods are its RPCs in snake case, `(caller, request) -> response`.
`RpcServer` puts such an object behind a port. `remote` makes a proxy with the same methods that calls through a
channel, and `local` makes a proxy that calls the object in this process. A caller cannot tell the three apart.
"""
