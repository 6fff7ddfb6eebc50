"""The errors meant for users. All errors raised on purpose are among them; the commands print only their text.

MineonlineError
├── ConfigError         a key or a value that cannot work, found before any process starts
├── CheckpointError     a checkpoint that is broken, or does not fit the run's networks
├── CollectorError      collectors failed too often, or nothing arrived for too long
├── EnvError            an environment cannot be built, or fails again and again
├── JobError            a job of a sweep has failed, in another process
├── LearningError       gradients or fragments stay non-finite
└── WireError           a message that was refused (counted by the receiver, never fatal there)
    └── NotFiniteError  ... because it holds numbers that are not finite
"""

import msgspec

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode."""


class MineonlineError(Exception):
    """Base of all errors whose text is meant for the user."""


class ConfigError(MineonlineError):
    """A setting that cannot work: names the key, the value found, and the values allowed."""


class CheckpointError(MineonlineError):
    """A checkpoint file that cannot be used: names the file and the reason."""


class CollectorError(MineonlineError):
    """No experience arrives: collectors keep failing, or none has sent anything for too long."""


class EnvError(MineonlineError):
    """An environment that cannot be built, or fails again and again: says why, and what to do about it."""


class JobError(MineonlineError):
    """A job of a sweep has failed: names its run folder, and where its output is."""


class LearningError(MineonlineError):
    """Learning cannot continue: names the tensors that are not finite, and where the fragments were saved."""


class WireError(MineonlineError):
    """A message that must not be trusted: wrong run, schema, size or content."""


class NotFiniteError(WireError):
    """A fragment with numbers that are not finite: its environment is broken, or its policy has diverged."""
