"""`docs/`: links, programs and scripts exist, and the messages that it quotes are those of the code."""

import ast
import importlib.util
import re
import shlex

import pytest

from mineonline.settings.command_line import compose_settings
from mineonline.settings.parsing import parse_config
from tests.helpers.settings import ROOT

CLUSTER = (ROOT / "docs" / "cluster.md").read_text()
_TABLE = CLUSTER.partition("tests/test_docs.py looks each of them up -->")[2].strip().partition("\n\n")[0]
QUOTED = re.findall(r"^\| `([^`]+)` \|", _TABLE, re.MULTILINE)


def messages():
    """Every text in the package; `…` stands for what is filled in."""
    for file in (ROOT / "mineonline").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_that_the_cluster_page_quotes_are_those_of_the_code():
    assert len(QUOTED) >= 10
    known = list(messages())
    assert not [quoted for quoted in QUOTED if not any(quoted in message for message in known)]


def test_programs_and_files_that_the_cluster_page_names_exist():
    for program in set(re.findall(r"python -m (mineonline\.\w+)", CLUSTER)):
        assert importlib.util.find_spec(program), program
    for link in re.findall(r"\]\(([^)#]+)\)", CLUSTER):
        assert "://" in link or (ROOT / "docs" / link).exists(), link
    for script in set(re.findall(r"\bslurm/\w+\.sh|containers/\w+\.?\w*", CLUSTER)):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", ["loggers", "metrics", "sweeps"])
def test_links_of_the_pages_about_what_a_run_logs_exist(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / f"{page}.md").read_text()):
        assert (ROOT / "docs" / link).exists(), link


def test_commands_of_the_page_about_loggers_can_be_typed():
    lines = re.findall(r"^python -m mineonline.train (.*)", (ROOT / "docs" / "loggers.md").read_text(), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        parse_config(compose_settings(shlex.split(line)))


@pytest.mark.parametrize(
    "name", ["MINEONLINE_SETUP", "MINEONLINE_COLLECTORS", "MINEONLINE_COLLECTOR_CPUS", "MINEONLINE_MAX_REQUEUES"]
)
def test_variables_that_the_cluster_page_names_are_read_by_the_script(name):
    assert name in CLUSTER
    assert f"${{{name}:-" in (ROOT / "slurm" / "train.sh").read_text()
