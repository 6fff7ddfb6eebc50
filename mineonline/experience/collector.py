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
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

# torchrl's workers and this process wait for each other; it is `Workers` that limits these waits
os.environ.setdefault("WEIGHT_SYNC_TIMEOUT", "600")

import psutil
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import MultiSyncCollector

from mineonline.errors import CollectorError, EnvError, MineonlineError
from mineonline.experience.episodes import EpisodeScores
from mineonline.experience.rollout import RolloutSettings
from mineonline.experience.wire import TAKEN, Header, RankLinks, encode
from mineonline.experience.worker import BuildEnv, FragmentCollector, build_torchrl_env, start_worker
from mineonline.fragment import EnvFailure, Episode, Report, TensorField, Timing
from mineonline.policies.actor import Actor
from mineonline.processes import fork_server
from mineonline.processes.logs import last_error, tail, worker_log
from mineonline.processes.supervisor import PLAYING

log = logging.getLogger(__name__)

HANG_EXIT_CODE = 75
_LOOK_EVERY_S = 0.2
_ENDS_WITHIN_S = 2.0
"""From a worker's broken pipe until its process has ended, and its log says why."""
_LONGEST_END_S = 20.0
"""From the error about a lost worker until all workers have ended."""


def collect(
    workers: Workers,
    sender: FragmentSender,
    newest_weights: Callable[[], dict[str, Tensor] | None],
    alive: Callable[[], None],
    *,
    share: int | None = None,
) -> None:
    """Play with the newest weights and send every rollout, until a callable raises. Waits for the first weights.

    `newest_weights`: returns each version once, and None while there is no newer one. `alive`: called after every
    rollout, and at least every 0.1 s while this waits for room or for the next version. `share`: play with each version
    until this many fragments of every environment are taken in, then wait for the next; None never waits. While it
    waits for the first weights only `newest_weights` can end it.
    """
    while (weights := newest_weights()) is None:
        time.sleep(0.05)
    for number in itertools.count(1):
        if weights is not None:
            workers.update_weights(weights)
        if share is None:
            sender.send(next(workers), alive, newest=workers.version)
        else:
            sender.send_share(workers, share, alive)
        if number == 1:
            log.info(PLAYING)
        alive()
        weights = newest_weights()
        while weights is None and share is not None:
            alive()
            time.sleep(0.002)
            weights = newest_weights()


class Workers:
    """The collector's workers. Iterating gives rollouts: name -> (W x N, ...), freshly allocated.

    Use it in the main thread only, where it looks after the workers whatever the thread is doing or waiting for. It
    raises there within a second: EnvError if an environment reported an error that the user can fix; CollectorError if
    a worker ended, if the workers have not started within `start_timeout_s`, or if a rollout takes longer than
    `batch_timeout_s` (the first one, `start_timeout_s`). Leaving the context ends the workers within 2 s, whatever they
    are doing.
    """

    def __init__(
        self, build_env: BuildEnv, actor: Actor, settings: RolloutSettings, *, workers: int, start_timeout_s: float,
        batch_timeout_s: float,
    ) -> None:  # fmt: skip
        self._actor = actor
        self._log = settings.collector_log
        self._collector: MultiSyncCollector | None = None
        self._rollouts: Generator[TensorDictBase, None, None] | None = None
        self.played = False
        """Whether there was a rollout."""
        self._start_timeout_s, self._batch_timeout_s = start_timeout_s, batch_timeout_s
        self._deadline, self._limit_s = float("inf"), 0.0
        self._failure: MineonlineError | None = None
        self._failed_at = 0.0
        per_worker, first_env = settings.envs_per_worker, settings.first_env
        self._error_files = [_error_file(os.getpid(), w) for w in range(workers)]
        build = partial(build_torchrl_env, build_env, num_envs=per_worker)
        forked = settings.device == "cpu"
        if forked:
            fork_server.start([FragmentCollector.__module__])
        else:  # CUDA does not survive a fork
            multiprocessing.set_start_method("spawn", force=True)
        # not a thread: it interrupts what the main thread waits for, in torchrl too
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY_S, _LOOK_EVERY_S)
        try:
            with self._limited(start_timeout_s):
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
                    init_fn=partial(start_worker, None if forked else os.getpid()),
                )
        except BaseException as error:
            # torchrl does not end the workers that did start, and Python would wait for them forever
            self._end()
            if isinstance(error, Exception) and not isinstance(error, MineonlineError):
                # torchrl may have swallowed what `_look` raised
                failure = self._failure or self._reported()
                raise failure or CollectorError(f"a worker could not start: {_named(error)}") from None
            raise

    def update_weights(self, tensors: dict[str, Tensor]) -> None:
        """Give all workers new weights; tensors that are left out stay as they are. Only between two rollouts.

        During a rollout, fragments would mix two versions.
        """
        assert self._collector is not None
        self._actor.load_state_dict({**self._actor.state_dict(), **tensors})
        with self._limited(self._batch_timeout_s):
            self._collector.update_policy_weights_(self._actor)

    @property
    def version(self) -> int:
        """Of the newest weights that they were given."""
        return int(self._actor.policy.version)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def __next__(self) -> dict[str, Tensor]:
        assert self._collector is not None
        if self._rollouts is None:
            self._rollouts = iter(self._collector)
        try:
            with self._limited(self._batch_timeout_s if self.played else self._start_timeout_s):
                rollout: TensorDictBase = next(self._rollouts)
        except (RuntimeError, ValueError, EOFError, OSError) as error:
            raise self._why(error) from None
        self.played = True
        return {name: tensor.flatten(0, 1) for name, tensor in rollout.items() if isinstance(tensor, Tensor)}

    @contextmanager
    def _limited(self, limit_s: float) -> Iterator[None]:
        self._deadline, self._limit_s = time.monotonic() + limit_s, limit_s
        try:
            yield
        finally:
            self._deadline = float("inf")

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread, several times per second. Raises if a worker has ended or hangs."""
        if self._failure is None:
            self._failed_at = time.monotonic()
            self._failure = self._first_failure()
            if self._failure is None and self._failed_at > self._deadline:
                self._failure = CollectorError(
                    f"no rollout for {self._limit_s:.0f} s: an environment hangs. If it is just slow, raise "
                    "collector.batch_timeout_s (for the first rollout, collector.start_timeout_s)."
                )
        elif time.monotonic() > self._failed_at + _LONGEST_END_S:
            log.error("the workers did not end within %.0f s: this collector ends at once", _LONGEST_END_S)
            logging.shutdown()
            os._exit(HANG_EXIT_CODE)
        if self._failure is not None:
            raise self._failure  # until the context is left: torchrl swallows it while it waits for a worker

    def _first_failure(self) -> MineonlineError | None:
        """Why a worker ended, if one did; torchrl does not say."""
        reported = self._failure or self._reported()
        if reported is not None:
            return reported
        for worker, process in enumerate(self._collector.procs if self._collector is not None else ()):
            if not process.is_alive():
                text = f"worker {worker} ended with exit code {process.exitcode}"
                file = worker_log(self._log, worker) if self._log is not None else None
                if file is not None and file.exists():
                    end = tail(file)
                    if end:
                        text += f" ({last_error(tail(file, lines=200))})"
                    text += "\n".join(filter(None, (f"; its log is {file}", end)))
                return CollectorError(text)
        return None

    def _why(self, error: Exception) -> MineonlineError:
        """Why torchrl, which noticed a broken pipe, raised `error`: the worker behind it is about to end (2 s)."""
        until = time.monotonic() + _ENDS_WITHIN_S
        while (failure := self._first_failure()) is None and time.monotonic() < until:
            time.sleep(0.02)
        return failure or CollectorError(_named(error))

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

    def _end(self) -> None:
        """Kill the workers, which ignore SIGTERM, and whatever their environments have started."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        fork_server.wake()  # it tells when they have ended
        for process in multiprocessing.active_children():
            assert process.pid is not None
            started = _started_by(process.pid)
            process.kill()
            for each in started:
                with suppress(psutil.Error):  # it has ended, or it is another user's
                    each.kill()
        if self._collector is not None:
            self._collector.shutdown(timeout=2.0)
        # torchrl's generator must not be left to the end of the interpreter, where its clean-up waits forever
        if self._rollouts is not None:
            self._rollouts.close()
        self._rollouts = self._collector = None


def _started_by(pid: int) -> list[psutil.Process]:
    """Children of a process, and theirs."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _error_file(collector: int, worker: int) -> Path:
    return Path(tempfile.gettempdir()) / f"mineonline-error-{collector}-{worker}"


class FragmentSender:
    """Sends the fragments of rollouts to the ranks, and reports the episodes that end in them."""

    def __init__(
        self, links: RankLinks, episodes: EpisodeScores, *, run_id: str, collector_id: int,
        schema: tuple[TensorField, ...], first_env: int, numbered_from: int,
    ) -> None:  # fmt: skip
        """`first_env`: global index that the first environment is sent under; `numbered_from`: the workers' own for it.

        They differ if the workers played for an earlier trainer: they keep the numbers that they had then.
        """
        self._links = links
        self._episodes = episodes
        self._run_id = run_id
        self._collector_id = collector_id
        self._schema = schema
        self._first_env, self._numbered_from = first_env, numbered_from
        self._episodes_ended: list[Episode] = []
        self._env_failures = 0
        self._surplus = 0
        self._reasons: dict[tuple[int, str], None] = {}
        """Environments and why they failed, in order. None of these four is reported yet."""
        self._rollout_started = time.perf_counter()
        self._sent_s = 0.0

    def send_share(self, rollouts: Iterator[dict[str, Tensor]], share: int, alive: Callable[[], None]) -> None:
        """Send as many of `rollouts` as it takes until `share` fragments of every environment are taken in.

        An environment that has its share may have to play on, because another one waits for its episode or had a
        fragment refused: what it then plays is dropped, and counted. Calls `alive` as `send` does.
        """
        taken: Counter[int] = Counter()

        def count(n: int, answer: bytes) -> None:
            taken[n] += answer == TAKEN

        wanted: set[int] | None = None
        while wanted is None or wanted:
            rollout = next(rollouts)
            self.send(rollout, alive, wanted=wanted, answered=count)
            self._links.settle(alive)
            wanted = {n for n in range(len(rollout["env_B"])) if taken[n] < share}

    def send(
        self, rollout: dict[str, Tensor], alive: Callable[[], None], *, wanted: set[int] | None = None,
        newest: int | None = None, answered: Callable[[int, bytes], None] = lambda n, answer: None,
    ) -> None:  # fmt: skip
        """Send the fragments of a rollout. Waits while all ranks are full, and calls `alive` at least every 0.1 s.

        `alive` may raise to give up. `wanted`: environments, by number in this collector, whose fragments are sent; all
        if None. `newest`: the version of the newest weights: what was begun with later ones, before the trainer went
        back to a checkpoint, is dropped, and counted as surplus. `answered`: told the answer to each.
        """
        now = time.perf_counter()
        timing = Timing(
            env_s=float(rollout["report.env_s"].mean()),
            policy_s=float(rollout["report.policy_s"].mean()),
            send_s=self._sent_s,
            total_s=now - self._rollout_started,
        )
        self._rollout_started = now
        self._env_failures += int(rollout["report.failures"].sum())
        for name in ("env_B", "report.reason_env"):
            rollout[name] += self._first_env - self._numbered_from
        for row in rollout["report.reason"].any(1).nonzero()[:, 0].tolist():
            reason = bytes(rollout["report.reason"][row].numpy()).rstrip(b"\0").decode()
            self._reasons[int(rollout["report.reason_env"][row]), reason] = None
        environments = (rollout["env_B"] - self._first_env).tolist()
        # of all rows, though sending may be given up: the next rollout, perhaps for another trainer, goes on from here
        ended = [self._episodes.finished(rollout, row, n) for row, n in enumerate(environments)]
        for row, n in enumerate(environments):
            self._episodes_ended += ended[row]
            if bool(rollout["idle_BT"][row].all()):
                continue  # its environment waited for an episode throughout: there is nothing to learn from
            of_another = newest is not None and int(rollout["version_B"][row]) > newest
            if of_another or (wanted is not None and n not in wanted):
                self._surplus += 1
                continue
            reasons = tuple(EnvFailure(env, reason) for env, reason in self._reasons)
            report = Report(
                self._collector_id, tuple(self._episodes_ended), self._env_failures, timing, reasons, self._surplus,
                self._links.lost,
            )  # fmt: skip
            self._episodes_ended, self._env_failures, self._surplus, self._links.lost = [], 0, 0, 0
            self._reasons.clear()
            fragment = {field.name: rollout[field.name][row] for field in self._schema}
            frames = encode(Header(self._run_id, self._schema, report), fragment)
            # no copy: nobody else uses the rollout, and zmq keeps it alive until it is sent
            self._links.send(frames, alive, partial(answered, n))
        self._sent_s = time.perf_counter() - now
