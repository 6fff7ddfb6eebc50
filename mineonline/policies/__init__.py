"""Policies: `policy` is the interface, `heads` and `value` are the outputs of all, `build` makes the configured one."""
