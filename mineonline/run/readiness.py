"""Finds what this machine can run, and says what to type for the rest."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from mineonline.envs.minestudio import requirements
from mineonline.envs.minestudio.package import restore_numpy_names
from mineonline.envs.minestudio.requirements import Finding, home
from mineonline.errors import EnvError

_HELD = ("torch", "numpy", "torchrl", "tensordict", "lightning")
"""Packages whose versions an installation must not change."""
_WITHOUT_DEPENDENCIES = (f"minestudio=={requirements.VERSION}", "gym3==0.3.3")
"""Installed without their dependencies, which they never use: pip would change torch and numpy for those."""
_PIP_TIMEOUT_S = 1800


def report() -> list[str]:
    """Print what is there and what is missing. Returns the names of what is missing."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _HELD]
    print(f"python {sys.version.split()[0]}, {', '.join(versions)}")
    print(f"GPUs: {', '.join(_gpus()) or 'none (everything runs without one)'}")
    print("env=world, gym: ready")
    findings = list(requirements.findings("minecraft"))
    _print("env=minestudio env.engine=world, policy=vpt", findings[:1])
    _print("env=minestudio", findings)
    return [finding.name for finding in findings if finding.cure]


def _gpus() -> list[str]:
    """Names of the GPUs that torch sees."""
    if importlib.metadata.version("torch").endswith("+cpu"):
        return []  # a CPU build sees none, and importing torch takes a second
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _print(what: str, findings: list[Finding]) -> None:
    missing = [finding for finding in findings if finding.cure]
    print(f"{what}: {'not ready' if missing else 'ready'}")
    for finding in findings:
        print(f"  {'missing' if finding.cure else 'ok':8}{finding.name}: {finding.found}")
        if finding.cure:
            print(f"          {finding.cure}")


def install() -> None:
    """Install MineStudio and what it imports, without changing the installed torch and numpy.

    EnvError if pip fails, or has changed a package that it must not change.
    """
    before = {name: importlib.metadata.version(name) for name in _HELD}
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in before.items()))
        _pip("-c", str(constraints), *_requirements())
        _pip("--no-deps", *_WITHOUT_DEPENDENCIES)
    importlib.invalidate_caches()
    after = {name: importlib.metadata.version(name) for name in _HELD}
    if after != before:
        raise EnvError(f"pip has changed packages that it was told not to: {before} became {after}.")


def _requirements() -> list[str]:
    """What `pip install 'mineonline[minestudio]'` adds."""
    found = [text.partition(";") for text in importlib.metadata.requires("mineonline") or []]
    chosen = [name.strip() for name, _, marker in found if 'extra == "minestudio"' in marker]
    if not chosen:
        raise EnvError("this installation has no extra 'minestudio'. Type  pip install -e .  again.")
    return chosen


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, check=False, timeout=_PIP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise EnvError(f"pip has not finished after {_PIP_TIMEOUT_S} s: {' '.join(command)}") from None
    if done.returncode:
        raise EnvError(f"pip failed with exit code {done.returncode}: {' '.join(command)}")


def download_engine() -> None:
    """Run MineStudio's own download. EnvError if MineStudio is missing, or the download fails."""
    finding = requirements.package()
    if finding.cure:
        raise EnvError(f"{finding.found}. {finding.cure}")
    restore_numpy_names()
    from minestudio.simulator.entry import download_engine

    try:
        download_engine()
    except Exception as error:  # noqa: BLE001 - the hub's client raises errors of several libraries
        raise EnvError(
            f"the engine could not be downloaded to {home()}: {type(error).__name__}: {error}\n"
            f"Copy the folders `engine` and `runtime` from a machine that has them to {home()}."
        ) from None
