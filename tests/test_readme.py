"""The README's commands: those that train are composed here, and what it names exists."""

import importlib.util
import re
import shlex
import subprocess

import pytest

from mineonline.settings.command_line import compose_settings
from mineonline.settings.parsing import parse_config
from tests.helpers.settings import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(re.split(r"\s{2,}", line.strip())[0])
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m ")
]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_names_a_program_and_settings_that_exist(command):
    assert importlib.util.find_spec(command[2])
    if command[2] == "mineonline.train" and "--help" not in command:
        overrides = [argument for argument in command[3:] if not argument.startswith("checkpoint=")]
        parse_config(compose_settings(overrides))


def test_every_file_that_is_linked_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_ci_runs_the_test_command_of_the_readme():
    (command,) = re.findall(r"<!-- test command -->\n```\n(.*?)\n```", README)
    assert command.endswith('pytest -n 2 --dist loadfile -m "not slow"')
    (extraction,) = re.findall(r"^command=\$\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    found = subprocess.run(["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == command
