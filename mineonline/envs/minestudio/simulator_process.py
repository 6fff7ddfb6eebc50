"""Starts one simulator's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from mineonline.envs.messages import SimulatorSetup
from mineonline.envs.minestudio.java import COMMAND, SCRATCH
from mineonline.envs.minestudio.requirements import FOLDER_VARIABLE, engine_command, lay_out
from mineonline.envs.process import EnvProcess, new_scratch
from mineonline.envs.settings import MineStudioEnvConfig
from mineonline.envs.tasks import Task

_PROGRAM = "mineonline.envs.minestudio.simulator"


def start_simulator(config: MineStudioEnvConfig, task: Task) -> EnvProcess:
    """The process of a simulator, which starts its engine when it is asked for its first episode."""
    scratch = new_scratch()
    setup = SimulatorSetup(
        msgspec.to_builtins(task), config.image_size, config.render_size, config.host_starts, config.declared()
    )
    return EnvProcess(_PROGRAM, setup, scratch, surroundings(config, scratch))


def surroundings(config: MineStudioEnvConfig, scratch: Path) -> dict[str, str]:
    """Environment variables of a simulator: it has its own MineStudio folder, and its `java` is `java.py`."""
    programs = {"java": f'exec "{sys.executable}" -S "{Path(__file__).with_name("java.py")}" "$@"'}
    if config.engine == "world":
        # the stand-in needs no screen
        programs["xvfb-run"] = '[ "$1" = -a ] && shift\nexec "$@"'
    (scratch / "bin").mkdir()
    for name, script in programs.items():
        file = scratch / "bin" / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    lay_out(config.engine, scratch)
    return {
        "PATH": f"{scratch / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        FOLDER_VARIABLE: str(scratch),
        "MALMO_MINECRAFT_OUTPUT_LOGDIR": str(scratch),
        COMMAND: "\n".join(engine_command(config.engine)),
        SCRATCH: str(scratch),
    }
