"""PATH 1, in the collector process: torchrl's workers make rollouts, and their fragments go to the trainer.

    worker w: policy copy + N environments --shared memory--> this process --DEALER--> every rank, in turn
                                                     newest weights, between rollouts only

Experience is never dropped here: when the ranks' buffers are full, sending waits, and so do the workers.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

# torchrl's workers and this process wait for each other; it is the watchdog that limits these waits
os.environ.setdefault("WEIGHT_SYNC_TIMEOUT", "600")

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import MultiSyncCollector

from mineonline.errors import CollectorError, EnvError, MineonlineError
from mineonline.experience.episodes import EpisodeScores
from mineonline.experience.rollout import BuildEnv, FragmentCollector, RolloutSettings, build_torchrl_env, start_worker
from mineonline.experience.wire import Header, RankLinks, encode
from mineonline.fragment import EnvFailure, Report, TensorField, Timing
from mineonline.policies.actor import Actor
from mineonline.processes.logs import tail, worker_log

log = logging.getLogger(__name__)

HANG_EXIT_CODE = 75


def collect(
    workers: Workers,
    sender: FragmentSender,
    newest_weights: Callable[[], dict[str, Tensor] | None],
    alive: Callable[[], None],
    *,
    rollouts_per_version: int | None = None,
) -> None:
    """Play with the newest weights and send every rollout, until a callable raises. Waits for the first weights.

    `newest_weights`: returns each version once, and None while there is no newer one. `alive`: called after every
    rollout, and at least every 0.1 s while this waits for room or for the next version. `rollouts_per_version`: play
    this many with each version, then wait for the next; None never waits. While it waits for the first weights only
    `newest_weights` can end it.
    """
    rollouts = iter(workers)
    while (weights := newest_weights()) is None:
        time.sleep(0.05)
    for number in itertools.count(1):
        if weights is not None:
            workers.update_weights(weights)
        sender.send(next(rollouts), alive)
        alive()
        weights = newest_weights()
        while weights is None and rollouts_per_version is not None and number % rollouts_per_version == 0:
            alive()
            time.sleep(0.002)
            weights = newest_weights()


class Workers:
    """The collector's workers. Iterating gives rollouts: name -> (W x N, ...), freshly allocated.

    Use it in the main thread only. The death of a worker is raised there at once: EnvError if an environment reported
    an error that the user can fix, otherwise CollectorError. Leaving the context ends the workers within 2 s, whatever
    they are doing.
    """

    def __init__(self, build_env: BuildEnv, actor: Actor, settings: RolloutSettings, *, workers: int) -> None:
        self._actor = actor
        self._log = settings.collector_log
        per_worker, first_env = settings.envs_per_worker, settings.first_env
        self._error_files = [_error_file(os.getpid(), w) for w in range(workers)]
        build = partial(build_torchrl_env, build_env, num_envs=per_worker)
        try:
            self._collector = MultiSyncCollector(
                [
                    partial(build, file, first_index=first_env + w * per_worker)
                    for w, file in enumerate(self._error_files)
                ],
                policy=actor,
                collector_class=partial(FragmentCollector, settings=settings),
                frames_per_batch=workers * per_worker * settings.length,
                total_frames=-1,
                policy_device=settings.device,
                env_device="cpu",
                storing_device="cpu",
                use_buffers=True,
                trust_policy=True,
                cat_results="stack",
                auto_register_policy_transforms=False,
                num_sub_threads=settings.torch_threads,
                init_fn=partial(start_worker, os.getpid()),
            )
        except BaseException as error:
            # torchrl does not end the workers that did start, and Python would wait for them forever
            self._end()
            if isinstance(error, Exception):
                raise self._reported() or CollectorError(f"a worker could not start: {error}") from None
            raise
        # torchrl waits forever for a worker that dies while it takes in new weights
        signal.signal(signal.SIGCHLD, self._on_child_end)

    def update_weights(self, tensors: dict[str, Tensor]) -> None:
        """Give all workers new weights; tensors that are left out stay as they are. Only between two rollouts.

        During a rollout, fragments would mix two versions. CollectorError if a worker is dead.
        """
        self._actor.load_state_dict({**self._actor.state_dict(), **tensors})
        self._collector.update_policy_weights_(self._actor)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rollouts = iter(self._collector)
        while True:
            try:
                rollout: TensorDictBase = next(rollouts)
            except (RuntimeError, ValueError, EOFError) as error:
                raise self._first_failure() or CollectorError(str(error)) from None
            yield {name: tensor.flatten(0, 1) for name, tensor in rollout.items() if isinstance(tensor, Tensor)}

    def _on_child_end(self, number: int, frame: FrameType | None) -> None:
        """If the child was a worker, raise why it ended, wherever the main thread is waiting."""
        failure = self._first_failure()
        if failure is not None:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # once is enough: others may end during the clean-up
            raise failure

    def _first_failure(self) -> MineonlineError | None:
        """Why a worker ended, if one did; torchrl does not say."""
        reported = self._reported()
        if reported is not None:
            return reported
        for worker, process in enumerate(self._collector.procs):
            if not process.is_alive():
                text = f"worker {worker} ended with exit code {process.exitcode}"
                if self._log is not None:
                    file = worker_log(self._log, worker)
                    text += f". The end of its log, {file}:\n{tail(file)}"
                return CollectorError(text)
        return None

    def _reported(self) -> EnvError | None:
        """The error that an environment left for the user before its worker ended, if one did."""
        for file in self._error_files:
            if file.exists():
                text = file.read_text()
                file.unlink()
                return EnvError(text)
        return None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._collector.shutdown(timeout=2.0)

    def _end(self) -> None:
        """Kill the workers: they ignore SIGTERM, and have nothing to clean up."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in multiprocessing.active_children():
            process.kill()


def _error_file(collector: int, worker: int) -> Path:
    return Path(tempfile.gettempdir()) / f"mineonline-error-{collector}-{worker}"


class FragmentSender:
    """Sends the fragments of rollouts to the ranks, and reports the episodes that end in them."""

    def __init__(
        self, links: RankLinks, episodes: EpisodeScores, *, run_id: str, collector_id: int,
        schema: tuple[TensorField, ...],
    ) -> None:  # fmt: skip
        self._links = links
        self._episodes = episodes
        self._run_id = run_id
        self._collector_id = collector_id
        self._schema = schema
        self._env_failures = 0
        self._reasons: dict[tuple[int, str], None] = {}
        """Environments and why they failed, in order. Neither is reported yet."""
        self._rollout_started = time.perf_counter()
        self._sent_s = 0.0

    def send(self, rollout: dict[str, Tensor], alive: Callable[[], None]) -> None:
        """Send every fragment of a rollout. Waits while all ranks are full, and calls `alive` at least every 0.1 s.

        `alive` may raise to give up.
        """
        now = time.perf_counter()
        timing = Timing(
            env_s=float(rollout["report.env_s"].mean()),
            policy_s=float(rollout["report.policy_s"].mean()),
            send_s=self._sent_s,
            total_s=now - self._rollout_started,
        )
        self._rollout_started = now
        self._env_failures += int(rollout["report.crashed_BT"].sum())
        for n in rollout["report.reason"].any(1).nonzero()[:, 0].tolist():
            reason = bytes(rollout["report.reason"][n].numpy()).rstrip(b"\0").decode()
            self._reasons[int(rollout["env_B"][n]), reason] = None
        for n in range(len(rollout["env_B"])):
            episodes = self._episodes.finished(rollout, n)
            if bool(rollout["idle_BT"][n].all()):
                continue  # its environment waited for an episode throughout: there is nothing to learn from
            reasons = tuple(EnvFailure(env, reason) for env, reason in self._reasons)
            report = Report(self._collector_id, episodes, self._env_failures, timing, reasons)
            self._env_failures = 0
            self._reasons.clear()
            fragment = {field.name: rollout[field.name][n] for field in self._schema}
            frames = encode(Header(self._run_id, self._schema, report), fragment)
            # no copy: nobody else uses the rollout, and zmq keeps it alive until it is sent
            self._links.send(frames, alive)
        self._sent_s = time.perf_counter() - now


class Watchdog:
    """Ends this process if `feed` is not called for `limit_s`: torchrl would wait forever for a hung environment."""

    def __init__(self) -> None:
        self._deadline = float("inf")
        self._limit_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def feed(self, limit_s: float) -> None:
        """All is well; expect the next call within `limit_s`."""
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            if time.monotonic() > self._deadline:
                log.error(
                    "no rollout for %.0f s: an environment hangs. This collector ends now; if the trainer started it, "
                    "it is restarted. If the environment is just slow, raise collector.batch_timeout_s (for the first "
                    "rollout, collector.start_timeout_s).",
                    self._limit_s,
                )
                logging.shutdown()
                os._exit(HANG_EXIT_CODE)
