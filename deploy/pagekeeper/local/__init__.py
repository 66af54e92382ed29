"""The launcher: a whole Pagekeeper on one machine, from Python alone. `make run` and tests use the launcher.

`LocalStack` in `stack` is the whole; `servers` are NATS and an S3 server from wheels, `processes` are ours. Everything
listens on 127.0.0.1, on ports that were free, and ends with the process that started it, whatever ends that. Linux
only: the kernel feature that this rests on (PR_SET_PDEATHSIG) has no equal elsewhere.
"""
