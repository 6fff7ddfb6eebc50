"""What a user can be told. Everything raised on purpose is one of these; the command line prints its text alone.

MineonlineError
├── ConfigError         a key or a value that cannot work, found before any process starts
├── CheckpointError     a checkpoint that is broken, or of another run's shape
├── CollectorError      collectors failed too often, or nothing arrived for too long
├── EnvError            an environment cannot be built
├── LearningError       gradients stay non-finite
└── WireError           a message that was refused (counted by the receiver, never fatal there)
    └── NotFiniteError  ... because of what its numbers are
"""

import msgspec

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes from a stranger."""


class MineonlineError(Exception):
    """Base of all errors whose text is meant for the user."""


class ConfigError(MineonlineError):
    """A setting that cannot work: names the key, what was found and what may stand there."""


class CheckpointError(MineonlineError):
    """A checkpoint file that cannot be used: names the file and the reason."""


class CollectorError(MineonlineError):
    """Experience does not come: collectors keep failing, or none has sent anything for too long."""


class EnvError(MineonlineError):
    """An environment that cannot be built: names what is missing and how to get it."""


class LearningError(MineonlineError):
    """Learning cannot go on: names the tensors that are not finite, and where the fragments were saved."""


class WireError(MineonlineError):
    """A message that must not be trusted: wrong run, schema, size or content."""


class NotFiniteError(WireError):
    """A fragment with numbers that are not finite: of a broken environment, or of a policy that has diverged."""
