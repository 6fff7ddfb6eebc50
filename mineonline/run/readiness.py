"""Finds what this machine, or each node of a job, can run, and says what to type for the rest."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from mineonline.envs.minestudio import requirements
from mineonline.envs.minestudio.package import restore_numpy_names
from mineonline.envs.minestudio.requirements import home
from mineonline.errors import EnvError
from mineonline.processes.launchers import external_launch, meeting_point, own_rank
from mineonline.run.node_checks import Check, check_node
from mineonline.run.node_meeting import NodeReport, meet_nodes

_HELD = ("torch", "numpy", "torchrl", "tensordict", "lightning")
"""Packages whose versions an installation must not change."""
_WITHOUT_DEPENDENCIES = (f"minestudio=={requirements.VERSION}", "gym3==0.3.3")
"""Installed without their dependencies, which they never use: pip would change torch and numpy for those."""
_PIP_TIMEOUT_S = 1800
_COLUMNS = 6
"""Nodes side by side."""
_CELL = 24
"""Characters of a cell."""


def examine(folder: Path, *, engines: int, needed: Sequence[str], timeout_s: float) -> list[NodeReport]:
    """Check this node, and with the ranks of torchrun or srun all of theirs: rank 0 gets all reports, others none.

    `folder`, `engines`, `needed`: see `check_node`. `timeout_s`: how long rank 0 and the others wait for one another.
    """
    launch = external_launch()
    ranks = 1 if launch is None else launch.ranks
    if launch is not None:
        # so that the address of a node is the one by which it reaches rank 0's
        os.environ["MASTER_ADDR"], _ = meeting_point()
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch's store warns of addresses without a name
    versions = {"python": sys.version.split()[0]}
    versions |= {name: importlib.metadata.version(name) for name in ("mineonline", *_HELD)}
    checks = check_node(folder, engines=engines, nodes=ranks, needed=needed)
    own = NodeReport(socket.gethostname(), 0 if launch is None else own_rank(), versions, checks)
    return [own] if launch is None else meet_nodes(own, ranks, folder, timeout_s)


def as_json(report: NodeReport) -> str:
    """One line, as `docs/cluster.md` describes it: the report, with `ready`, and `ok` of each check."""
    plain = msgspec.to_builtins(report)
    checks = [{**check, "ok": not check["cure"]} for check in plain["checks"]]
    return msgspec.json.encode({**plain, "ready": report.ready, "checks": checks}).decode()


def as_list(report: NodeReport) -> str:
    """What was found on one node, area by area."""
    lines = [", ".join(f"{name} {version}" for name, version in report.versions.items())]
    for area, group in groupby(report.checks, key=lambda check: check.area):
        checks = list(group)
        lines.append(f"{area}: {'not ready' if any(check.cure for check in checks) else 'ready'}")
        for check in checks:
            lines.append(f"  {'missing' if check.cure else 'ok':8}{check.name}: {check.found}")
            lines += [f"          {check.cure}"] if check.cure else []
    return "\n".join(lines)


def as_table(reports: Sequence[NodeReport]) -> str:
    """A row for each check and a column for each node; below, what is missing on which nodes, and its cure.

    `FAIL`: needed, and missing. `no`: missing, and not needed for what was asked.
    """
    areas = list(dict.fromkeys(check.area for report in reports for check in report.checks))
    checks = sorted((check for report in reports for check in report.checks), key=lambda check: areas.index(check.area))
    names = list(dict.fromkeys(check.name for check in checks))
    found = {(report.rank, check.name): check for report in reports for check in report.checks}
    labels = {report.rank: _label(report, reports) for report in reports}
    lines = []
    for first in range(0, len(reports), _COLUMNS):
        block = reports[first : first + _COLUMNS]
        table = [["", *(labels[report.rank] for report in block)]]
        table += [[name, *(_cell(found.get((report.rank, name))) for report in block)] for name in names]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table] + [""]
    missing: dict[Check, list[str]] = {}
    for report in reports:
        for check in report.checks:
            if check.cure:
                missing.setdefault(check, []).append(labels[report.rank])
    for check, where in sorted(missing.items(), key=lambda item: not item[0].needed):
        lines += [
            f"{_cell(check):5}{check.name} ({check.area}) on {', '.join(where)}: {check.found}",
            f"     {check.cure}",
        ]
    return "\n".join(lines).rstrip()


def _label(report: NodeReport, reports: Sequence[NodeReport]) -> str:
    alone = sum(other.node == report.node for other in reports) == 1
    return report.node if alone else f"{report.node} ({report.rank})"


def _cell(check: Check | None) -> str:
    if check is None:
        return "-"
    if check.cure:
        return "FAIL" if check.needed else "no"
    return check.found if len(check.found) <= _CELL else check.found[: _CELL - 1] + "…"


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
