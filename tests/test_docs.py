"""The pages: links lead somewhere, commands compose, quoted messages are those of the code, and the site builds."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys

import pytest

from mineonline.__main__ import COMMANDS
from mineonline.settings.checks import check_ranks
from mineonline.settings.command_line import compose_settings, with_config_dirs
from mineonline.settings.parsing import parse_config
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT, checkpoint_of

PAGES = {str(file.relative_to(ROOT)): file.read_text() for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
NUMBERS = ("<N>", "<number>", "<more>", "<seconds>", "<8>")
SLURM = {"slurm/train.sh": "train", "slurm/collect.sh": "collect"}


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The names that a code host gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def lines(page):
    """What can be typed: the lines of blocks without a language, with examples in place of what is in <...>."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines() * (not language):
            for number in NUMBERS:
                line = line.replace(number, "8")
            yield re.sub(r"<[^>]*>", "x", line.replace("<run folder>", "RUN"))


def commands(line):
    """(command, words) of each of mineonline's commands in a line."""
    for typed in line.split(" && "):
        called = re.search(r"(?:-m mineonline\.|^mineonline )(\w+)(.*)", typed)
        script = re.search(r"(slurm/\w+\.sh)(.*)", typed)
        if called:
            yield called[1], tuple(shlex.split(called[2], comments=True))
        elif script:
            words = shlex.split(script[2], comments=True)
            yield SLURM[script[1]], tuple(word for word in words if word != "--dry-run")


LINES = list(dict.fromkeys(line for page in PAGES for line in lines(page)))
TYPED = list(dict.fromkeys(each for line in LINES for each in commands(line)))
ON_NODES = [
    (int(found[1]) * int(found[2]), words)
    for line in LINES
    if (found := re.search(r"--n?nodes=(\d+).* --n(?:tasks|proc)-per-node=(\d+)", line))
    for command, words in commands(line)
    if command == "train" and not any(word.startswith("checkpoint=") for word in words)
]
"""Ranks and words of the commands that start to train on several nodes."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, for words that name one."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint_of(folder)
    return folder


def test_there_are_pages_and_commands_to_check():
    assert len(PAGES) >= 12
    assert len(TYPED) >= 40


@pytest.mark.parametrize(
    ("command", "words"), TYPED, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_every_command_and_all_its_settings_exist(command, words, run, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert command in COMMANDS
    if "--help" in words or any("my_" in word for word in words):  # what is my_... is for the reader to write
        return
    words = [word.replace("RUN", str(run)) for word in words]
    if command == "train":
        words = [
            word
            for word in words
            if word != "-m" and not word.startswith(("checkpoint=", "hydra", "+hydra", "hparams_search="))
        ]
        if words != with_config_dirs(words):
            return  # tests/programs/test_examples.py runs it
        parse_config(compose_settings([re.sub(r"=([^\[{,'\"]*),.*", r"=\1", word) for word in words]))
    else:
        importlib.import_module(f"mineonline.{command}").parse_arguments(words)


@pytest.mark.parametrize(("ranks", "words"), ON_NODES, ids=lambda part: part if isinstance(part, int) else part[0])
def test_training_on_several_nodes_can_be_divided_among_the_ranks(ranks, words):
    check_ranks(parse_config(compose_settings(list(words))), ranks)


def test_there_are_commands_for_several_nodes():
    assert len(ON_NODES) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_scripts_that_a_page_names_are_there(page):
    for module in set(re.findall(r"python -m ((?:mineonline|tests)[.\w]*\w)", PAGES[page])):
        assert importlib.util.find_spec(module), module
    for benchmark in set(re.findall(r"`((?:bench|compare|count|check)_\w+|chaos)`", PAGES[page])):
        assert importlib.util.find_spec(f"tests.benchmarks.{benchmark}"), benchmark
    for file in set(re.findall(r"\b(?:slurm|containers|scripts|tests|examples)/[\w/]+\.\w+", PAGES[page])):
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize(
    "name", ["MINEONLINE_SETUP", "MINEONLINE_COLLECTORS", "MINEONLINE_COLLECTOR_CPUS", "MINEONLINE_MAX_REQUEUES"]
)
def test_variables_that_the_cluster_page_names_are_read_by_the_script(name):
    assert name in PAGES["docs/cluster.md"]
    assert f"${{{name}:-" in (ROOT / "slurm" / "train.sh").read_text()


def quoted(page):
    """Messages in tables whose first column is headed so."""
    for table in re.findall(r"^\| mineonline says \|.*\n\|[-|]+\n((?:\|.*\n?)+)", PAGES[page], re.MULTILINE):
        yield from re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def messages():
    """Every text in the package, in small letters; `…` stands for what is filled in."""
    for file in (ROOT / "mineonline").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            yield re.sub(r"%[.\d]*[sdfg]", "…", text).lower()


def test_the_messages_that_pages_quote_are_those_of_the_code():
    said = {text for page in PAGES for text in quoted(page)}
    assert len(said) >= 30
    known = list(messages())
    assert not [text for text in said if not any(text.lower() in message for message in known)]


def test_ci_runs_the_test_command_of_the_readme():
    (command,) = re.findall(r"<!-- test command -->\n```\n(.*?)\n```", PAGES["README.md"])
    assert command.endswith('pytest -n 2 --dist loadfile -m "not slow"')
    (extraction,) = re.findall(r"^command=\$\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    found = subprocess.run(["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == command


def test_the_front_is_short_and_starts_with_a_small_film():
    assert len(PAGES["README.md"].splitlines()) < 130
    (film,) = re.findall(r"!\[[^]]+\]\((docs/hunt_cow\.\w+)\)", PAGES["README.md"])
    assert (ROOT / film).stat().st_size < 3_000_000


@pytest.mark.program
def test_the_site_builds_without_a_warning_and_its_navigation_has_every_page(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", "-d", f"{tmp_path}/trees"]
    done = subprocess.run(
        [*command, ".", f"{tmp_path}/site"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "site" / "README.html").read_text()
    for page in PAGES:
        assert page == "README.md" or f'href="{page[:-3]}.html"' in front


def test_the_example_with_a_trained_policy_plays_an_episode():
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGES["docs/policies.md"], re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", f"import torch\ntorch.manual_seed(1)\n{example}"],
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) > 0
    assert "kill_entity/cow" in done.stdout
