"""The commands of README and pages: those that train are composed here, and what the README names exists."""

import importlib.util
import re
import shlex
import subprocess

import pytest

from mineonline import collect, evaluate, plot, publish
from mineonline.settings.arguments import ExportArguments, MetricsArguments, RelayArguments, ReplayArguments
from mineonline.settings.command_line import compose_settings, parse_words
from mineonline.settings.parsing import parse_config
from tests.helpers.settings import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / name).read_text() for name in ("compare.md", "publish.md"))]
COMMANDS = [
    shlex.split(re.sub(r"<[^>]*>", "x", re.split(r"\s{2,}", line.strip())[0]))
    for page in PAGES
    for block in re.findall(r"```\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m ")
]

STRUCTS = {
    "mineonline.metrics": MetricsArguments,
    "mineonline.export": ExportArguments, "mineonline.relay": RelayArguments, "mineonline.replay": ReplayArguments,
}  # fmt: skip


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_names_a_program_and_settings_that_exist(command):
    program, words = command[2], command[3:]
    assert importlib.util.find_spec(program)
    if program == "mineonline.train" and "--help" not in words:
        parse_config(compose_settings([word for word in words if not word.startswith("checkpoint=")]))
    elif program == "mineonline.collect":
        collect.parse_arguments(words)
    elif program == "mineonline.evaluate":
        evaluate.parse_arguments(words)
    elif program in ("mineonline.plot", "mineonline.publish"):
        {"mineonline.plot": plot, "mineonline.publish": publish}[program].parse_arguments(words)
    elif program in STRUCTS:
        parse_words(words, STRUCTS[program], "")


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
