"""Videos during training: whole episodes, played and filmed in a separate process that training never waits for.

Rank 0 starts `python -m mineonline.evaluate ... video=videos/<iteration>.mp4` with the current weights, one at a time,
at low priority. That process ends with the trainer, however the trainer ends.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch

from mineonline.atomic import partial_file
from mineonline.callbacks import background
from mineonline.callbacks.iteration import IterationCallback
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO
from mineonline.policies.policy import Policy
from mineonline.processes.logs import tail
from mineonline.processes.stopping import StopRequest

log = logging.getLogger(__name__)

METRIC = "video/episode"
"""Under which loggers show videos."""
LAST_VIDEO_LIMIT_S = 120.0


class RecordVideos(IterationCallback):
    """Records an episode every `every` iterations and one at the end of training; 0 records none.

    Of several tasks, each is filmed in turn.

    An iteration that is due while a recording still runs gets no video (`skipped` counts them). The end of training
    waits for the last video, at most LAST_VIDEO_LIMIT_S; when training fails or `stop` is requested, a recording is
    abandoned at once. `failures` counts the recorders that failed; only the first is reported.
    """

    def __init__(
        self, run_dir: Path, config_file: Path, every: int, stop: StopRequest, tasks: Sequence[str] = ()
    ) -> None:
        """`config_file`: the run's settings, which say what is played. `tasks`: their names, if there are several."""
        self._run_dir = run_dir
        self._config_file = config_file
        self._every = every
        self._tasks = tasks
        self._stop = stop
        self._recorder: _Recorder | None = None
        self._newest: int | None = None
        self.skipped = 0
        self.failures = 0

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        if not self._every or not trainer.is_global_zero:
            return
        self._look(trainer)
        # the last iteration is recorded when training has ended
        if learner.iteration % self._every == 0 and learner.iteration < learner.iterations:
            self._start(learner)

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        if not self._every or not trainer.is_global_zero:
            return
        deadline = time.monotonic() + LAST_VIDEO_LIMIT_S
        if not self._gives_up(deadline):
            print("recording the last video (at most 2 minutes; Ctrl-C skips it) ...", file=sys.stderr, flush=True)
        try:
            self._wait(deadline, trainer)
            if self._newest != learner.iteration and not self._gives_up(deadline):
                self._start(learner)
                self._wait(deadline, trainer)
        finally:
            self._give_up()

    def failed(self) -> None:
        self._give_up()

    def _start(self, learner: PPO) -> None:
        """Start a recorder, unless one still runs."""
        if self._recorder is not None:
            self.skipped += 1
            log.info(
                "no video of iteration %d: that of %d is still being recorded (%d skipped so far)",
                learner.iteration, self._newest, self.skipped,
            )  # fmt: skip
            return
        try:
            task = self._tasks[-(-learner.iteration // self._every) % len(self._tasks)] if self._tasks else None
            self._recorder = _Recorder(self._run_dir, self._config_file, learner.policy, learner.iteration, task)
            self._newest = learner.iteration
        except (OSError, RuntimeError) as error:  # no space, no process; torch.save raises RuntimeError for a full disk
            self._report(str(error))

    def _look(self, trainer: lightning.Trainer) -> None:
        """Notice whether the recorder has ended; show its video to loggers."""
        code = self._recorder.poll() if self._recorder is not None else None
        if self._recorder is None or code is None:
            return
        if code:
            self._report(f"exit code {code}. The end of {self._recorder.log}:\n{tail(self._recorder.log)}")
        else:
            for logger in trainer.loggers:
                if hasattr(logger, "log_video"):  # with the arguments that Lightning's WandbLogger takes
                    logger.log_video(METRIC, [str(self._recorder.video)], step=self._newest)
        self._recorder.kill()
        self._recorder = None

    def _report(self, reason: str) -> None:
        self.failures += 1
        if self.failures == 1:
            log.warning("a video could not be recorded; training continues. Later failures are not logged. %s", reason)

    def _gives_up(self, deadline: float) -> bool:
        return self._stop.received is not None or time.monotonic() > deadline

    def _wait(self, deadline: float, trainer: lightning.Trainer) -> None:
        """Wait until the recorder has ended, the deadline has passed, or the run was asked to stop."""
        while self._recorder is not None and not self._gives_up(deadline):
            time.sleep(0.1)
            self._look(trainer)
        if self._recorder is not None and self._stop.received is None:
            self._report(f"it took more than {LAST_VIDEO_LIMIT_S:.0f} s after the end of training.")

    def _give_up(self) -> None:
        if self._recorder is not None:
            self._recorder.kill()
            self._recorder = None


class _Recorder:
    """A process that films one episode of `policy` as it is now. Make it as `background.start` says."""

    def __init__(self, run_dir: Path, config_file: Path, policy: Policy, iteration: int, task: str | None) -> None:
        self.log = run_dir / "logs" / "videos.log"
        self.video = run_dir / "videos" / f"{iteration:06d}{f'_{task}' if task else ''}.mp4"
        for folder in (self.log.parent, self.video.parent):
            folder.mkdir(exist_ok=True)  # a run folder that is gone is not made again
        # a file without a name vanishes with its last reader, even if this process is killed
        with tempfile.TemporaryFile(dir=self.video.parent) as weights, self.log.open("ab") as output:
            state = {f"policy.{name}": tensor.detach().cpu() for name, tensor in policy.state_dict().items()}
            torch.save({"state_dict": state, "iteration": iteration}, weights)
            weights.flush()
            words = ["checkpoint=/dev/stdin", "episodes=1", f"config={config_file}", f"video={self.video}"]
            words += [f"tasks=[{task}]"] if task else []
            self._process = background.start("mineonline.evaluate", words, run_dir, output, weights)

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill it if it still runs, and remove its unfinished video."""
        self._process.kill()
        self._process.wait()
        partial_file(self.video, self._process.pid).unlink(missing_ok=True)
