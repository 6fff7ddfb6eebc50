"""Policies: `policy` says what one is, `heads` and `value` are what all end in, `build` picks the configured one."""
