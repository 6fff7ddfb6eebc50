"""What others may rely on: the names in `mineonline`, and commands that answer before anything slow is imported."""

import importlib.metadata
import os
import re
import subprocess
import sys
from functools import partial

import pytest

import mineonline
from mineonline.__main__ import COMMANDS
from tests.helpers.programs import LIMIT_S

PUBLIC = {
    "PPO", "IterationOutput", "Losses", "Rows", "Sequences", "FirstPass",
    "Policy", "PolicyOutput", "Memory", "Head", "CategoricalHead", "GaussianHead", "FactoredHead", "JointHead",
    "head_for", "ValueHead", "MinePolicyAdapter",
    "VectorEnv", "AsyncVectorEnv", "EnvSpec", "ContinuousAction", "TensorSpec", "Step", "ActionMask",
    "Fragments", "Episode", "Batch", "Arrivals", "RecordedFragments", "load_policy", "make_env",
    "errors", "__version__",
}  # fmt: skip
"""A name that is taken away, or means something else, breaks somebody's program: say so in CHANGES.md."""
WITH_WORDS = ("collect", "evaluate", "play", "plot", "publish", "replay", "export")
SLOW = ("torch", "lightning", "torchrl", "tensordict", "gymnasium", "numba", "wandb", "matplotlib", "av")


def test_the_public_names_are_these_and_each_can_be_imported():
    assert set(mineonline.__all__) == PUBLIC
    assert set(dir(mineonline)) == PUBLIC
    for name in PUBLIC:
        assert getattr(mineonline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Colector'"):
        mineonline.Colector  # noqa: B018 looking it up is what is tested


def test_the_version_is_that_of_the_installed_package():
    assert mineonline.__version__ == importlib.metadata.version("mineonline")


def imported_by(*arguments):
    """The packages that a Python process imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    packages = set(re.findall(r"\| +(\w+)", done.stderr))
    assert "mineonline" in packages, done.stderr
    return packages


@pytest.mark.program
@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import mineonline"],
        ["-m", "mineonline", "--help"],
        ["-m", "mineonline.train", "--help"],
        ["-m", "mineonline.train", "iteration=5"],
        ["-m", "mineonline.train", "objective.discount=2"],
        ["-m", "mineonline.train", "checkpoint=absent.ckpt"],
        *(["-m", f"mineonline.{command}", "--help"] for command in WITH_WORDS),
        *(["-m", f"mineonline.{command}", "chekpoint=x"] for command in WITH_WORDS),
        ["-m", "mineonline.doctor", "--help"],
        ["-m", "mineonline.relay", "--help"],
        ["-c", "import mineonline.web.server"],
    ],
    ids=" ".join,
)
def test_help_and_a_mistake_are_answered_before_anything_slow_is_imported(arguments):
    assert not imported_by(*arguments) & set(SLOW)


def mineonline_command(*words):
    return subprocess.run(
        [sys.executable, "-m", "mineonline", *words], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.program
def test_every_command_can_be_typed_as_a_subcommand():
    listed = mineonline_command("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed
        direct = subprocess.run(
            [sys.executable, "-m", f"mineonline.{command}", "--help"], capture_output=True, text=True, timeout=LIMIT_S
        )
        assert direct.returncode == 0
        assert mineonline_command(command, "--help").stdout == direct.stdout
    wrong = mineonline_command("trian")
    assert wrong.returncode == 1
    assert wrong.stderr == "error: trian: there is no such command. Did you mean train?\n"


@pytest.mark.program
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", ["train --help", "evaluate --help", "metrics"])
def test_output_that_nobody_reads_is_no_reason_for_a_traceback(words, buffered):
    command, *more = words.split()
    run = partial(
        subprocess.run, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S,
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
    )  # fmt: skip
    line = [sys.executable, "-m", f"mineonline.{command}", *more]
    reader, writer = os.pipe()
    os.close(reader)
    done = run(line, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    closed = run(["sh", "-c", 'exec "$@" >&-', "sh", *line])
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.program
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mineonline ", set(COMMANDS)),
        ("mineonline train task=hunt", {"task=hunt_cow"}),
        ("mineonline train policy=tiny policy.mem", {"policy.memory="}),
        ("mineonline evaluate ch", set()),
    ],
)
def test_the_shell_completes_commands_groups_and_keys(monkeypatch, line, expected):
    monkeypatch.setenv("COMP_LINE", line)
    assert set(mineonline_command("-sc", "query=bash").stdout.split()) == expected
    assert "complete -o nospace -o default -F hydra_bash_completion mineonline" in mineonline_command(
        "-sc", "install=bash"
    ).stdout.replace("\n", " ")
