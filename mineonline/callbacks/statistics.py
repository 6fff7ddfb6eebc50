"""Episodes, throughput and drops of each iteration, over all ranks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import lightning
import torch

from mineonline.experience.buffer import Share

_WINDOW_EPISODES = 100


class Statistics(lightning.Callback):
    """Logs what arrived since the last iteration, summed over ranks.

    `episode/*` are means over at least the last 100 episodes (fewer at the start; NaN before the first). `time/*` say
    which share of an iteration each link waited or worked; the largest is the bottleneck. `idle_rows` is the share of
    rows without a decision: last observations of cut episodes, and environments that wait for their next episode.
    `env_failures` counts environments that failed and were replaced, playing or not. `names`: the statistics of the
    environment. Env steps, episodes and failures go on counting after a resume.
    """

    def __init__(self, names: tuple[str, ...], restarts: Callable[[], int]) -> None:
        """`restarts`: collectors that this rank had to start again so far."""
        self._names = names
        self._restarts = restarts
        self._window: deque[list[float]] = deque()
        self._totals = {"env_steps": 0, "episodes": 0, "env_failures": 0}
        self._last = time.perf_counter()
        self._taken = self._last
        self.bottleneck = ""
        self.headlines = ["episode/return", *(f"episode/{name}" for name in names[:1])]

    def state_dict(self) -> dict[str, int]:
        return dict(self._totals)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._totals.update(state_dict)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._last = time.perf_counter()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Share, batch_idx: int
    ) -> None:
        self._taken = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: Share,
        batch_idx: int,
    ) -> None:
        now = time.perf_counter()
        elapsed, learn_s, self._last = now - self._last, now - self._taken, now
        sums = self._over_ranks(trainer, self._sums(batch))
        env_steps, fragments, lag, reuse, stale, refused, env_s, policy_s, send_s, total_s, full_s, idle = sums[:12]
        collectors = float(len(batch.arrivals.collectors))
        self._totals["env_steps"] += int(env_steps)
        self._totals["env_failures"] += int(sums[12])
        lags = torch.tensor(float(max(batch.lag_B)), device=pl_module.device)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(lags, torch.distributed.ReduceOp.MAX)
        times = {
            "environments": env_s / max(total_s, 1e-9),
            "inference": policy_s / max(total_s, 1e-9),
            "sending": send_s / max(total_s, 1e-9),
            "learner": learn_s / elapsed,
        }
        self.bottleneck = _bottleneck(times, batch.wait_s / elapsed)
        metrics = {
            **self._episodes(sums[13:]),
            "env_steps": float(self._totals["env_steps"]),
            "env_steps_per_s": env_steps / elapsed,
            "lag_versions": lag / fragments,
            "lag_versions_max": float(lags),
            "reuse": reuse / fragments,
            "idle_rows": idle / fragments,
            "dropped/stale": stale,
            "dropped/refused": refused,
            "collectors": collectors,
            "collector_restarts": float(self._restarts()),
            "env_failures": float(self._totals["env_failures"]),
            "time/iteration_s": elapsed,
            "time/learner_waits": batch.wait_s / elapsed,
            "time/buffer_full": full_s / trainer.world_size / elapsed,
            **{f"time/{name}": value for name, value in times.items()},
        }
        pl_module.log_dict(metrics, batch_size=1)

    def _sums(self, share: Share) -> list[float]:
        arrivals = share.arrivals
        return [
            float(arrivals.env_steps),
            float(len(share.lag_B)),
            float(sum(share.lag_B)),
            float(sum(share.reuse_B)),
            float(arrivals.dropped["stale"]),
            float(arrivals.dropped["refused"]),
            sum(t.env_s for t in arrivals.timings),
            sum(t.policy_s for t in arrivals.timings),
            sum(t.send_s for t in arrivals.timings),
            sum(t.total_s for t in arrivals.timings),
            arrivals.full_s,
            float(share.fragments.final_BT.float().mean(1).sum()),
            float(arrivals.env_failures),
            float(len(arrivals.episodes)),
            sum(episode.episode_return for episode in arrivals.episodes),
            float(sum(episode.length for episode in arrivals.episodes)),
            *(sum(episode.statistics[name] for episode in arrivals.episodes) for name in self._names),
        ]

    def _over_ranks(self, trainer: lightning.Trainer, values: list[float]) -> list[float]:
        if trainer.world_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(tensor)
        return list(map(float, tensor.cpu()))

    def _episodes(self, sums: list[float]) -> dict[str, float]:
        """`sums`: count, returns, lengths and the statistics of the episodes that just ended."""
        self._totals["episodes"] += int(sums[0])
        self._window.append(sums)
        while sum(entry[0] for entry in self._window) - self._window[0][0] >= _WINDOW_EPISODES:
            self._window.popleft()
        count, *totals = (sum(column) for column in zip(*self._window, strict=True))
        means = [total / count if count else float("nan") for total in totals]
        names = ["return", "length", *self._names]
        return {
            "episodes": float(self._totals["episodes"]),
            **{f"episode/{name}": mean for name, mean in zip(names, means, strict=True)},
        }


def _bottleneck(times: dict[str, float], waiting: float) -> str:
    """The learner, if it hardly waits; otherwise what the collectors spend most time on."""
    if waiting < 0.1:
        return "learner"
    return max(("environments", "inference", "sending"), key=lambda name: times[name])
