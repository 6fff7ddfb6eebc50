"""Says why environments fail."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import lightning

from mineonline.callbacks.iteration import IterationCallback
from mineonline.envs.failures import one_line
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO
from mineonline.status import Failure

log = logging.getLogger(__name__)

_MOST_REASONS = 20
"""To show: some texts contain numbers, and never end."""


class EnvFailures(IterationCallback):
    """Every rank warns once of each reason for which environments failed, as far as it was told."""

    def __init__(self, logs: Path) -> None:
        """`logs`: folder of the collectors' logs."""
        self._logs = logs
        self.by_reason: dict[str, Failure] = {}
        """At most 20 reasons; replaced when it changes."""

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        for failure in batch.arrivals.reasons:
            reason = one_line(failure.reason)  # another machine's words
            known = self.by_reason.get(reason)
            if known is None and len(self.by_reason) >= _MOST_REASONS:
                continue
            times = known.times + 1 if known is not None else 1
            self.by_reason = {**self.by_reason, reason: Failure(reason, times, failure.env, time.time())}
            if known is None:
                self._warn(reason, failure.env)

    def _warn(self, reason: str, env: int) -> None:
        if len(self.by_reason) == _MOST_REASONS:
            log.warning("environments fail for more and more reasons; no others are shown here. See %s", self._logs)
        else:
            log.warning(
                "environment %d failed: %s; its episode was cut, it starts anew. Full traceback: %s. More failures "
                "for this reason are only counted.",
                env, reason, self._logs,
            )  # fmt: skip
