"""Videos while training: whole episodes, played and filmed by a process of their own, which training never waits for.

rank 0 starts `python -m mineonline.evaluate ... video=videos/<iteration>.mp4` with the present weights, one at a time,
at low priority. It ends with the trainer, however that ends.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning
import torch

from mineonline.frames import partial_file
from mineonline.learning.module import PPO
from mineonline.policies.policy import Policy
from mineonline.processes import RUN_DIR_VARIABLE, tail
from mineonline.run_folder import CONFIG_FILE
from mineonline.stopping import StopRequest
from mineonline.supervisor import PARENT_VARIABLE

log = logging.getLogger(__name__)

LAST_VIDEO_LIMIT_S = 120.0
_NICER_BY = 10


class RecordVideos(lightning.Callback):
    """Records an episode every `every` iterations and one at the end of training; 0 records none.

    An iteration whose turn comes while the last recording still runs gets no video (`skipped` counts them). The end of
    training waits for the last video, at most LAST_VIDEO_LIMIT_S; when training fails or `stop` is requested, what is
    being recorded is given up at once. A recorder that fails is reported once, and counted in `failures`.
    """

    def __init__(self, run_dir: Path, every: int, stop: StopRequest) -> None:
        self._run_dir = run_dir
        self._every = every
        self._stop = stop
        self._recorder: _Recorder | None = None
        self._newest: int | None = None
        self.skipped = 0
        self.failures = 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        if not self._every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PPO)
        self._look()
        # the last iteration's turn comes when training has ended
        if pl_module.iteration % self._every == 0 and pl_module.iteration < pl_module.iterations:
            self._begin(pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not self._every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PPO)
        deadline = time.monotonic() + LAST_VIDEO_LIMIT_S
        if not self._gives_up(deadline):
            print("recording the last video (at most 2 minutes; Ctrl-C skips it) ...", file=sys.stderr, flush=True)
        try:
            self._wait(deadline)
            if self._newest != pl_module.iteration and not self._gives_up(deadline):
                self._begin(pl_module)
                self._wait(deadline)
        finally:
            self._give_up()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._give_up()

    def _begin(self, module: PPO) -> None:
        """Start a recorder, unless one still runs."""
        if self._recorder is not None:
            self.skipped += 1
            log.info(
                "no video of iteration %d: that of %d is still being recorded (%d skipped so far)",
                module.iteration, self._newest, self.skipped,
            )  # fmt: skip
            return
        try:
            self._recorder = _Recorder(self._run_dir, module.policy, module.iteration)
            self._newest = module.iteration
        except (OSError, RuntimeError) as error:  # no space, no process; torch.save raises RuntimeError for a full disk
            self._report(str(error))

    def _look(self) -> None:
        """Note a recorder that has ended."""
        code = self._recorder.poll() if self._recorder is not None else None
        if self._recorder is None or code is None:
            return
        if code:
            self._report(f"exit code {code}. The end of {self._recorder.log}:\n{tail(self._recorder.log)}")
        self._recorder.kill()
        self._recorder = None

    def _report(self, reason: str) -> None:
        self.failures += 1
        if self.failures == 1:
            log.warning("a video could not be recorded; training goes on. Later failures are not logged. %s", reason)

    def _gives_up(self, deadline: float) -> bool:
        return self._stop.received is not None or time.monotonic() > deadline

    def _wait(self, deadline: float) -> None:
        """Until the recorder has ended, the deadline has passed, or the run was asked to stop."""
        while self._recorder is not None and not self._gives_up(deadline):
            time.sleep(0.1)
            self._look()
        if self._recorder is not None and self._stop.received is None:
            self._report(f"it took more than {LAST_VIDEO_LIMIT_S:.0f} s after the end of training.")

    def _give_up(self) -> None:
        if self._recorder is not None:
            self._recorder.kill()
            self._recorder = None


class _Recorder:
    """A process that films one episode of `policy` as it is now.

    To be started by a thread that lives as long as the run: the kernel ends the process with the thread.
    """

    def __init__(self, run_dir: Path, policy: Policy, iteration: int) -> None:
        self.log = run_dir / "logs" / "videos.log"
        self._video = run_dir / "videos" / f"{iteration:06d}.mp4"
        for folder in (self.log.parent, self._video.parent):
            folder.mkdir(parents=True, exist_ok=True)
        # a file without a name vanishes with its last reader, even if this process is killed
        with tempfile.TemporaryFile(dir=self._video.parent) as weights, self.log.open("ab") as output:
            state = {f"policy.{name}": leaf.detach().cpu() for name, leaf in policy.state_dict().items()}
            torch.save({"state_dict": state, "iteration": iteration}, weights)
            weights.flush()
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "mineonline.evaluate", "checkpoint=/dev/stdin", "episodes=1",
                    f"config={run_dir / CONFIG_FILE}", f"video={self._video}",
                ],
                stdin=weights,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    RUN_DIR_VARIABLE: str(run_dir),
                    PARENT_VARIABLE: str(os.getpid()),
                    "OMP_NUM_THREADS": "1",
                },
                # Ctrl-C at the trainer's terminal is for the trainer, who ends the recorder
                start_new_session=True,
            )  # fmt: skip
        os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER_BY)

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it if it still runs, and remove what it has not completed."""
        self._process.kill()
        self._process.wait()
        partial_file(self._video, self._process.pid).unlink(missing_ok=True)
