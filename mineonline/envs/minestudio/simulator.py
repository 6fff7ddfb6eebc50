"""The process of one simulator: MineStudio's unmodified `MinecraftSim`, controlled by a worker.

    python -m mineonline.envs.minestudio.simulator <descriptor to read> <descriptor to write> <worker's process id>

It may crash or hang: the worker (`env.py`) sets a deadline for every order, and replaces it.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mineonline.envs.actions import BUTTON_TABLE, GROUP_NAMES, NO_CAMERA, encode_buttons
from mineonline.envs.messages import (
    Begin,
    Close,
    Decide,
    Failed,
    Link,
    Outcome,
    Queued,
    Ready,
    SimulatorSetup,
    Starting,
    link_to_worker,
)
from mineonline.envs.minestudio.java import SIMULATOR
from mineonline.envs.minestudio.package import restore_numpy_names
from mineonline.envs.minestudio.starts import turn_to_start
from mineonline.envs.tasks import Task, parse_task
from mineonline.errors import ConfigError

_CAMERA, _ATTACK = GROUP_NAMES.index("camera"), GROUP_NAMES.index("attack")


class Simulator:
    """A `MinecraftSim` and the episode that it plays."""

    def __init__(self, setup: SimulatorSetup) -> None:
        from minestudio.simulator.callbacks import GateRewardsCallback, JudgeResetCallback

        from mineonline.envs.minestudio.callbacks import AddedReward, Watched, callbacks_of, check_engine, declared_of

        self._setup = setup
        self._task: Task = parse_task(setup.task)
        self._callbacks = callbacks_of(self._task)
        bare = [c.callback if isinstance(c, Watched) else c for c in self._callbacks]
        self._judges = [c for c in bare if isinstance(c, JudgeResetCallback)]
        rewards = [c.callback for c in self._callbacks if isinstance(c, AddedReward)]
        self._portals = [c for c in rewards if isinstance(c, GateRewardsCallback)]
        self._check_engine = check_engine
        self._declared_of = declared_of
        self._sim: Any = None
        self._base: dict[tuple[str, str], float] = {}
        self._deaths = 0.0

    def begin(self, order: Begin) -> dict[str, bytes]:
        """Start an episode; returns its first observation."""
        random.seed(order.episode_seed)
        np.random.seed(order.episode_seed & 0xFFFFFFFF)
        if self._sim is None:
            self._sim = self._make(order.mission_seed)
        sim = self._sim
        sim.np_random = np.random.default_rng(order.episode_seed)
        # once the engine itself has ended a mission, it takes no more commands
        if order.hard or (sim.already_reset and sim.env.done):
            sim.already_reset = False
        if not sim.already_reset or self._task.reset == "same_terrain":
            sim.env.seed(order.mission_seed)
        self._judges[-1].time_limit = order.time_limit
        observation, info = sim.reset()
        self._check_engine(info)
        self._base = {pair: count_of(info, *pair) for pair in self._task.counted()}
        self._deaths = deaths_of(info)
        return self._seen("after_reset", observation)

    def decide(self, order: Decide) -> Outcome:
        """Play the ticks of one decision, fewer if the episode ends first."""
        repeat = self._task.action_repeat
        reward, frames = 0.0, []
        for tick in range(repeat):
            cut = any(judge.time_step + 1 >= judge.time_limit for judge in self._judges)
            action = _keys_of_tick(order, tick, repeat)
            observation, paid, terminated, truncated, info = self._sim.step(action)
            reward += float(paid)
            if order.film:
                frames.append(_bytes_of(info["pov"]))
            dead = info.get("health", 1) <= 0 or deaths_of(info) > self._deaths
            # MineStudio reports both if the engine ends the mission, and reports a time limit as a termination
            ends_itself = bool(terminated) and not cut and not truncated
            terminated = dead or ends_itself
            truncated = not terminated and (cut or bool(truncated))
            if terminated or truncated:
                break
        return Outcome(
            observation=self._seen("after_step", observation), reward=reward, terminated=terminated,
            truncated=truncated, statistics=self._statistics(info), frames=frames,
        )  # fmt: skip

    def close(self) -> None:
        """End the engine, and let callbacks write their files."""
        if self._sim is not None:
            self._sim.close()

    def _make(self, mission_seed: int) -> Any:
        _look_after_engine()
        from minestudio.simulator import MinecraftSim

        return MinecraftSim(
            action_type="agent",
            obs_size=self._setup.image_size,
            render_size=self._setup.render_size,
            seed=mission_seed,
            preferred_spawn_biome=self._task.biome,
            callbacks=self._callbacks,
        )

    def _seen(self, hook: str, observation: Any) -> dict[str, bytes]:
        """What the policy sees of MineStudio's observation. CallbackError if a declared array is absent or wrong."""
        declared = self._declared_of(hook, observation, self._setup.observations, self._task.callbacks)
        return {"image": _bytes_of(observation["image"]), **declared}

    def _statistics(self, info: Any) -> list[float]:
        totals = [count_of(info, *pair) - base for pair, base in self._base.items()]
        return totals + [float(portal.prev_reward) for portal in self._portals]


def _keys_of_tick(order: Decide, tick: int, repeat: int) -> dict[str, Any]:
    """The action of one tick of a decision: the camera moves on the first, attack is released on the last."""
    choice_G = BUTTON_TABLE[int(order.action["buttons"])].copy()
    camera = int(order.action["camera"])
    if tick > 0:
        choice_G[_CAMERA] = 0
        camera = NO_CAMERA
    if tick > 0 and tick == repeat - 1:
        choice_G[_ATTACK] = 0
    return {"buttons": np.array([encode_buttons(choice_G)]), "camera": np.array([camera])}


def count_of(info: Any, event: str, thing: str) -> float:
    """The engine's count of an event so far. ConfigError if it does not keep that count."""
    if event not in info:
        raise ConfigError(
            f"the engine's info has no {event!r}, which the task pays for (it has: {', '.join(sorted(info))}). "
            "This is not the engine of MineStudio 1.1.6 (mcprec-6.13.jar)."
        )
    return float(info[event].get(thing, 0))


def deaths_of(info: Any) -> float:
    """How often the player has died so far; 0 if the engine reports only health. ConfigError if it reports neither."""
    if "health" not in info and "custom" not in info:
        raise ConfigError(
            "the engine's info has neither 'health' nor 'custom', so deaths could not be seen. "
            "This is not the engine of MineStudio 1.1.6 (mcprec-6.13.jar)."
        )
    return float(info.get("custom", {}).get("deaths", 0))


def _bytes_of(picture: Any) -> bytes:
    return np.ascontiguousarray(picture, np.uint8).tobytes()


def _look_after_engine() -> None:
    """Tell MineStudio that a process watches its engine already: otherwise it starts one that outlives this by minutes.

    `java.py` ends the engine at once. MineStudio records its watcher in a cache, which here is this simulator's own.
    """
    import diskcache

    folder = Path(os.environ["MINESTUDIO_DIR"]) / f"{socket.gethostname()}_tmp" / "database"
    folder.mkdir(parents=True)
    with diskcache.Cache(str(folder), eviction_policy="none") as cache:
        cache["daemon"] = (os.getpid(), os.getpid())


def _failure(error: Exception) -> Failed:
    from mineonline.envs.minestudio.callbacks import CallbackError

    if isinstance(error, (ConfigError, CallbackError)):
        return Failed(str(error), users=True)
    # when the engine is gone, what MineStudio raises does not say so
    return Failed(f"MineStudio's simulator failed: {type(error).__name__}: {error}", users=False)


def play(link: Link) -> None:
    """Follow the worker's orders until it sends `Close` or is gone."""
    setup, order = link.receive(), link.receive()
    if isinstance(order, Close):
        return
    assert isinstance(setup, SimulatorSetup), setup
    assert isinstance(order, Begin), order
    # importing MineStudio and starting its engine keep a core busy each
    with turn_to_start(setup.host_starts, lambda: link.send(Queued())):
        link.send(Starting())
        simulator = _open(setup)
        link.send(Ready(simulator.begin(order)))
    while not isinstance(order := link.receive(), Close):
        link.send(Ready(simulator.begin(order)) if isinstance(order, Begin) else simulator.decide(order))
    simulator.close()


def _open(setup: SimulatorSetup) -> Simulator:
    restore_numpy_names()
    import cv2

    cv2.setNumThreads(1)
    return Simulator(setup)


def main() -> None:
    """Exits through `os._exit`: MineStudio's handlers would wait three seconds for an engine that `java.py` ends."""
    link = link_to_worker()
    os.environ[SIMULATOR] = str(os.getpid())
    try:
        play(link)
    except (EOFError, BrokenPipeError):
        pass  # the worker has left
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker must know before this process ends
        traceback.print_exc()
        with suppress(BrokenPipeError):  # the worker has left
            link.send(_failure(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
