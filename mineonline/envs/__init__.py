"""Environments: `contract` says what one is, `tasks` what is played, `build` picks the configured one."""
