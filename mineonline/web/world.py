"""The world process: plays 20 ticks a second, in one thread, until the server is gone.

`python -m mineonline.web.world`, started by the server (`world_link.py`), reads orders on stdin and writes news on
stdout. It ends when stdin ends, and first writes what was recorded. What it and its libraries print goes to stderr.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import torch
from PIL import Image

from mineonline.envs.build import env_spec, prepare
from mineonline.envs.settings import WorldEnvConfig
from mineonline.envs.tasks import TICK_S
from mineonline.errors import ConfigError, MineonlineError
from mineonline.run.checkpoint import find_checkpoint
from mineonline.run.folder import CONFIG_FILE, read_config
from mineonline.settings.config import Config
from mineonline.settings.devices import check_device
from mineonline.video.overlay import Frame
from mineonline.web.agent import Agent
from mineonline.web.controls import keys_of
from mineonline.web.game import Game
from mineonline.web.messages import (
    Failed,
    Hand,
    Loading,
    Opened,
    Order,
    Pause,
    Picture,
    Pipes,
    Press,
    Restart,
    Turn,
    WorldSetup,
)
from mineonline.web.recorder import Recorder

_JPEG_QUALITY = 80


def main() -> None:
    """Play until the server is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C is for the server, which then closes the pipe
        signal.signal(number, signal.SIG_IGN)
    writer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pipes = Pipes(sys.stdin.fileno(), writer)
    try:
        (setup,) = pipes.receive(WorldSetup, None)
        try:
            _World(pipes, setup).play()
        except MineonlineError as error:
            pipes.send(Failed(str(error)))
    except (EOFError, BrokenPipeError):  # before there was anything to write
        return


class _World:
    """A game, and the orders and news that go with it."""

    def __init__(self, pipes: Pipes, setup: WorldSetup) -> None:
        """MineonlineError if it cannot be played."""
        self._pipes = pipes
        self._setup = setup
        self._read_ns = 0
        """When the agent's checkpoint was written."""
        pipes.send(Loading("reading the settings"))
        self._config = _config_of(setup)
        check_device("device", setup.device)
        torch.set_num_threads(1)  # of two cores, the other draws the page
        torch.manual_seed(setup.seed)
        pipes.send(Loading("loading the embedded world (the first time on a machine it is compiled: a minute)"))
        prepare(self._config.env)
        task = self._config.task
        assert isinstance(self._config.env, WorldEnvConfig)
        assert task is not None  # `_config_of` has looked
        spec = env_spec(self._config.env, task)
        self._recorder = None
        if setup.record is not None:
            length = self._config.fragment.length
            self._recorder = Recorder(Path(setup.record), spec, length=length, env=task.name)
        agent = self._agent() if setup.checkpoint is not None else None
        self._game = Game(self._config.env, task, seed=setup.seed, agent=agent, recorder=self._recorder)
        if setup.run is not None:
            self._has_agent()
            self._game.note = ""  # a run that has just begun has no checkpoint
        self._pictures = 0
        self._newest = 0
        """Number of the newest input."""
        self._opened = Opened(
            task.name, task.text, keys_of(task.actions), self._game.controls.turns,
            task.action_repeat,
        )  # fmt: skip

    def play(self) -> None:
        """Until the server is gone; EOFError then."""
        game = self._game
        self._pipes.send(self._opened)
        self._show()
        due: float | None = None
        try:
            while True:
                changed = False
                # while the game pauses there is nothing to do but wait for orders
                for order in self._pipes.receive(Order, due):
                    changed |= self._obey(order)
                if game.paused:
                    due = None
                elif due is None:
                    due = time.monotonic()
                ticked = due is not None and time.monotonic() >= due
                if ticked:
                    assert due is not None
                    changed |= game.tick()
                    # a world that is late does not hurry afterwards
                    due = max(due + TICK_S, time.monotonic() - TICK_S)
                if ticked or changed:
                    self._show(situation=changed)
        finally:
            game.close()

    def _show(self, *, situation: bool = True) -> None:
        self._pictures += 1
        self._pipes.send(Picture(self._pictures, self._newest, jpeg_of(self._game.picture())))
        if situation:
            self._pipes.send(self._game.situation())

    def _obey(self, order: Order) -> bool:
        """Whether the situation has changed."""
        game = self._game
        match order:
            case Press(number, button, down):
                self._newest = number
                game.controls.press(button, down)
                return False
            case Turn(number, down, right):
                self._newest = number
                game.controls.turn(down, right)
                return False
            case Hand(to):
                game.note = ""
                game.wanted = to if to == "person" or self._has_agent() else "person"
            case Pause(paused):
                game.paused = paused
                if paused:
                    game.controls.release()
                    self._newest = 0  # another browser counts anew
            case Restart():
                game.restart()
        return True

    def _has_agent(self) -> bool:
        """Load the agent, or a newer one of its run; if there is none, say so to the person."""
        if self._setup.run is None:
            if self._game.agent is None:
                self._game.note = "There is no agent here: start with checkpoint=<file> or run=<run folder>."
            return self._game.agent is not None
        try:
            found = find_checkpoint(self._setup.run, None, "run")
            old = self._game.agent
            if old is None or found != old.checkpoint or found.stat().st_mtime_ns != self._read_ns:
                self._read_ns = found.stat().st_mtime_ns
                self._game.agent = Agent(self._config, found, self._setup.device)
        except (MineonlineError, OSError) as error:
            self._game.note = str(error)
        return self._game.agent is not None

    def _agent(self) -> Agent:
        assert self._setup.checkpoint is not None
        return Agent(self._config, find_checkpoint(self._setup.checkpoint, None), self._setup.device)


def jpeg_of(frame: Frame) -> bytes:
    """An RGB picture `[H, W, 3]` as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _config_of(setup: WorldSetup) -> Config:
    """What is played. ConfigError if that is not the embedded world."""
    if setup.config is not None:
        config = msgspec.json.decode(setup.config, type=Config)
    elif setup.checkpoint is not None:
        config = read_config(find_checkpoint(setup.checkpoint, None))
    else:
        assert setup.run is not None
        config = read_config(Path(setup.run), Path(setup.run) / CONFIG_FILE)
    if not isinstance(config.env, WorldEnvConfig):
        kind = msgspec.to_builtins(config.env)["kind"]
        raise ConfigError(f"env={kind} cannot be played here: only the embedded world (env=world) can.")
    if config.task is None:
        names = "|".join(config.tasks)
        raise ConfigError(
            f"this run plays several tasks, and a person one at a time: python -m mineonline.play task=<{names}>"
        )
    return config


if __name__ == "__main__":
    main()
