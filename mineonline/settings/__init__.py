"""What can be set: `config` has every key, `checks` what cannot work together, `parsing` and `command_line` the way in.

`targets` builds the classes that users bring along; `devices` looks for the GPUs that they name.
"""
