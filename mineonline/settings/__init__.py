"""What can be set: `config` has every key, `checks` says what cannot work, `parsing` and `command_line` read settings.

`targets` builds the classes that users bring; `devices` checks that the devices they name exist.
"""
