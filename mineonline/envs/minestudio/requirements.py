"""What MineStudio's simulator needs on a machine, and for what is missing, the command that cures it.

Used before anything starts (`check`) and by `python -m mineonline.doctor`. Imports nothing of MineStudio.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from mineonline.envs.minestudio.package import INSTALL
from mineonline.errors import EnvError

Engine = Literal["minecraft", "world"]

VERSION = "1.1.6"
"""Of MineStudio."""
JAR = Path("engine/build/libs/mcprec-6.13.jar")
FOLDER_VARIABLE = "MINESTUDIO_DIR"
MODULES = ("minestudio", "gym", "gym3", "cv2", "diskcache", "psutil", "lxml", "Pyro4", "daemoniker", "minecraft_data")
_JAVA_TIMEOUT_S = 30


class Finding(NamedTuple):
    """One thing that was looked for."""

    name: str
    found: str
    """What was found; what is wrong, if `cure` is not empty."""
    cure: str = ""
    """What to type; empty if all is well."""


def home() -> Path:
    """MineStudio's folder: `$MINESTUDIO_DIR`, or `MineStudio` in the temporary folder, as in MineStudio."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / "MineStudio")


def findings(engine: Engine) -> Iterator[Finding]:
    """Check everything that `env=minestudio env.engine=<engine>` needs, in the order in which it is needed."""
    yield package()
    if engine == "minecraft":
        yield jar()
        yield java()
        yield display()


def check(engine: Engine) -> None:
    """EnvError names everything that is missing, each with its cure."""
    missing = [finding for finding in findings(engine) if finding.cure]
    if missing:
        lines = [f"  {finding.name}: {finding.found}. {finding.cure}" for finding in missing]
        raise EnvError("env=minestudio cannot run on this machine:\n" + "\n".join(lines))


def package() -> Finding:
    """MineStudio's Python package and what it imports."""
    name = "MineStudio"
    missing = [module for module in MODULES if importlib.util.find_spec(module) is None]
    if missing:
        return Finding(name, f"missing Python packages ({', '.join(missing)})", INSTALL)
    version = importlib.metadata.version("minestudio")
    if version != VERSION:
        return Finding(name, f"version {version}, but {VERSION} is needed", INSTALL)
    return Finding(name, version)


def jar() -> Finding:
    """The engine."""
    name, file = "engine", home() / JAR
    cure = f"Type  python -m mineonline.doctor --engine  (or set {FOLDER_VARIABLE} to the folder that has {JAR})"
    if not file.exists():
        return Finding(name, f"{file} is missing", cure)
    if not zipfile.is_zipfile(file):
        return Finding(name, f"{file} ({file.stat().st_size} bytes) is not a jar: its download was cut off", cure)
    if not (home() / "runtime").is_dir():
        return Finding(name, f"{home() / 'runtime'} is missing, but the jar is there", cure)
    return Finding(name, str(file))


def java() -> Finding:
    """Java 8: Minecraft 1.16's engine does not start with a newer one."""
    name = "Java 8"
    cure = (
        "Install it and put it first in PATH:  conda install -c conda-forge openjdk=8  or  apt install openjdk-8-jdk  "
        "(or run with  PATH=<its bin folder>:$PATH)"
    )
    program = shutil.which("java")
    if program is None:
        return Finding(name, "there is no java in PATH", cure)
    try:
        command = [program, "-version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_JAVA_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, f"{program} does not run: {error}", cure)
    version = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    if version is None:
        return Finding(name, f"{program} -version says {(done.stderr or done.stdout).strip()[:200]!r}", cure)
    if not version[1].startswith("1.8"):
        return Finding(name, f"{program} is Java {version[1]}", cure)
    return Finding(name, f"{version[1]} ({program})")


def display() -> Finding:
    """What the engine draws on: a virtual screen. MineStudio 1.1.6 starts it with MINESTUDIO_GPU_RENDER=1 too."""
    name = "display"
    missing = [program for program in ("xvfb-run", "xauth") if shutil.which(program) is None]
    if missing:
        return Finding(name, f"there is no {' and no '.join(missing)} in PATH", "Type  apt install xvfb xauth")
    if os.environ.get("MINESTUDIO_GPU_RENDER") == "1" and shutil.which("vglrun") is None:
        return Finding(
            name, "MINESTUDIO_GPU_RENDER=1, but there is no vglrun in PATH",
            "Install VirtualGL (https://virtualgl.org; docs/cluster.md says how to use it), or unset "
            "MINESTUDIO_GPU_RENDER to draw on the CPU",
        )  # fmt: skip
    return Finding(name, str(shutil.which("xvfb-run")))


def engine_command(engine: Engine) -> list[str]:
    """The program to run with Java's arguments."""
    if engine == "world":
        return [sys.executable, "-m", "mineonline.envs.engine"]
    program = shutil.which("java")
    if program is None:
        check(engine)
    return [str(program)]


def lay_out(engine: Engine, folder: Path) -> None:
    """Make `folder` a MineStudio folder, with the machine's engine or an empty one."""
    if engine == "minecraft":
        for name in ("engine", "runtime"):
            (folder / name).symlink_to((home() / name).resolve())
    else:
        (folder / JAR).parent.mkdir(parents=True)
        (folder / JAR).touch()  # without this file, MineStudio asks on the terminal
        (folder / "runtime").mkdir()
