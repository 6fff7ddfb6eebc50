"""PATH 1, second station, the collector process: torchrl's workers make fragments, and they go to the trainer.

    worker w: policy copy + N environments --shared memory--> this process --DEALER--> every rank, in turn
                                                     newest weights, between batches only

Experience is never dropped here: when the ranks' buffers are full, sending waits, and so do the workers.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import MultiSyncCollector

from mineonline.envs.contract import Action, Observation, Step, VectorEnv
from mineonline.errors import CollectorError, EnvError, MineonlineError
from mineonline.experience.episodes import EpisodeCount
from mineonline.experience.links import RankLinks
from mineonline.experience.rollout import FragmentCollector, RolloutSettings, TorchrlEnv, worker_log_file
from mineonline.experience.wire import Header, Timing, encode
from mineonline.fragment import LeafSpec
from mineonline.policies.actor import Actor
from mineonline.processes import begin_logging, die_with_parent, tail

log = logging.getLogger(__name__)

HANG_EXIT_CODE = 75

BuildEnv = Callable[..., VectorEnv]
"""Called with `num_envs` and `first_index` (global index of the first) in the worker; must pickle."""


class Workers:
    """The collector's workers. Iterating gives batches of fragments: name -> (W x N, ...), freshly allocated.

    Belongs to the main thread, where the death of a worker is raised at once: CollectorError, or what the user can mend
    (an EnvError of an environment). Use as a context manager: leaving it ends the workers within 2 s, whatever they do.
    """

    def __init__(self, build_env: BuildEnv, actor: Actor, settings: RolloutSettings, *, workers: int) -> None:
        self._actor = actor
        self._log = settings.worker_log
        per_worker, first_env = settings.envs_per_worker, settings.first_env
        self._error_files = [_error_file(os.getpid(), w) for w in range(workers)]
        try:
            self._collector = MultiSyncCollector(
                [
                    partial(_build, build_env, file, num_envs=per_worker, first_index=first_env + w * per_worker)
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
                init_fn=partial(_begin_worker, os.getpid()),
            )
        except BaseException as error:
            # torchrl leaves the workers that did start, and Python would wait for them for ever
            self._end()
            if isinstance(error, Exception):
                raise self._reported() or CollectorError(f"a worker could not start: {error}") from None
            raise
        # torchrl waits for ever for a worker that dies while it takes new weights in
        signal.signal(signal.SIGCHLD, self._look_at_workers)

    def update_weights(self, tensors: dict[str, Tensor]) -> None:
        """Give all workers new weights; what `tensors` leave out stays. Only between two batches.

        During one, fragments would mix two versions. CollectorError if a worker is dead.
        """
        self._actor.load_state_dict({**self._actor.state_dict(), **tensors})
        self._collector.update_policy_weights_(self._actor)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        batches = iter(self._collector)
        while True:
            try:
                batch: TensorDictBase = next(batches)
            except (RuntimeError, ValueError, EOFError) as error:
                raise self._first_failure() or CollectorError(str(error)) from None
            yield {name: leaf.flatten(0, 1) for name, leaf in batch.items() if isinstance(leaf, Tensor)}

    def _look_at_workers(self, number: int, frame: FrameType | None) -> None:
        """A child has ended: raises why, wherever the main thread waits, if it was a worker."""
        failure = self._first_failure()
        if failure is not None:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # once is enough: others may follow on the way out
            raise failure

    def _first_failure(self) -> MineonlineError | None:
        """Why a worker is gone, if one is: torchrl does not say, the worker does."""
        reported = self._reported()
        if reported is not None:
            return reported
        for worker, process in enumerate(self._collector.procs):
            if not process.is_alive():
                text = f"worker {worker} ended with exit code {process.exitcode}"
                if self._log is not None:
                    file = worker_log_file(self._log, worker)
                    text += f". The end of its log, {file}:\n{tail(file)}"
                return CollectorError(text)
        return None

    def _reported(self) -> EnvError | None:
        """What an environment said to the user before it ended its worker, if one did."""
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
        """Workers ignore SIGTERM, and have nothing that must be put in order."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in multiprocessing.active_children():
            process.kill()


def _error_file(collector: int, worker: int) -> Path:
    return Path(tempfile.gettempdir()) / f"mineonline-error-{collector}-{worker}"


def _build(build_env: BuildEnv, error_file: Path, *, num_envs: int, first_index: int) -> TorchrlEnv:
    with _reporting(error_file):
        vector = build_env(num_envs=num_envs, first_index=first_index)
    return TorchrlEnv(_Reporting(vector, error_file))


@contextmanager
def _reporting(error_file: Path) -> Iterator[None]:
    """What the user can mend ends this worker, with a note for the collector: torchrl would pass on but a code."""
    try:
        yield
    except MineonlineError as error:
        part = error_file.with_suffix(".part")
        part.write_text(str(error))
        part.rename(error_file)
        logging.shutdown()
        os._exit(1)


class _Reporting:
    """A `VectorEnv` in a worker, whose errors for the user reach the collector."""

    def __init__(self, vector: VectorEnv, error_file: Path) -> None:
        self._vector = vector
        self._error_file = error_file
        self.spec, self.num_envs = vector.spec, vector.num_envs

    @property
    def waiting_N(self) -> NDArray[np.bool_]:
        return self._vector.waiting_N

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        with _reporting(self._error_file):
            return self._vector.reset(which_N)

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        with _reporting(self._error_file):
            return self._vector.step(action, active_N)

    def close(self) -> None:
        self._vector.close()


def _begin_worker(parent: int) -> None:
    """First in every worker: only the collector ends it."""
    die_with_parent(parent)
    begin_logging()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class FragmentSender:
    """Sends the fragments of batches to the ranks, and notes the episodes that end in them."""

    def __init__(
        self,
        links: RankLinks,
        *,
        run_id: str,
        collector_id: int,
        schema: tuple[LeafSpec, ...],
        statistics: tuple[str, ...],
        task: str,
        environments: int,
        staggered: bool = False,
    ) -> None:
        """`staggered`: the first episode of each environment begins in the middle, and is not reported."""
        self._links = links
        self._run_id = run_id
        self._collector_id = collector_id
        self._schema = schema
        self._episodes = EpisodeCount(environments, statistics=statistics, task=task, staggered=staggered)
        self._env_failures = 0
        """That no fragment has told yet."""
        self._batch_began = time.perf_counter()
        self._sent_s = 0.0

    def send(self, batch: dict[str, Tensor], alive: Callable[[], None]) -> None:
        """Send every fragment of a batch; waits while all ranks are full, and calls `alive` at least every 0.1 s.

        `alive` may raise to give up.
        """
        now = time.perf_counter()
        timing = Timing(
            env_s=float(batch["report.env_s"].mean()),
            policy_s=float(batch["report.policy_s"].mean()),
            send_s=self._sent_s,
            total_s=now - self._batch_began,
        )
        self._batch_began = now
        self._env_failures += int(batch["report.crashed_BT"].sum())
        for n in range(len(batch["env_B"])):
            episodes = self._episodes.finished(batch, n)
            if bool(batch["final_BT"][n].all()):
                continue  # it waited for an episode all the time: nothing can be learnt
            header = Header(self._run_id, self._collector_id, self._schema, episodes, self._env_failures, timing)
            self._env_failures = 0
            frames = encode(header, {leaf.name: batch[leaf.name][n] for leaf in self._schema})
            # no copy: the batch is this function's alone, and zmq keeps it until it is sent
            self._links.send(frames, alive)
        self._sent_s = time.perf_counter() - now


class Watchdog:
    """Ends this process when nobody called `feed` for `limit_s`: torchrl waits for a hung environment for ever."""

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
                    "no batch of fragments for %.0f s: an environment hangs. This collector ends, and is restarted if "
                    "the trainer started it. If it is just slow, raise collector.batch_timeout_s (for the first batch, "
                    "collector.start_timeout_s).",
                    self._limit_s,
                )
                logging.shutdown()
                os._exit(HANG_EXIT_CODE)
