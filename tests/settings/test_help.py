"""`--help` and docs/configuration.md: every key, with its meaning, from one source."""

import re

import pytest

from mineonline.settings import arguments
from mineonline.settings.command_line import compose_settings
from mineonline.settings.configuration_page import page
from mineonline.settings.help import describe_arguments, train_help
from mineonline.settings.meanings import all_settings, section_meanings
from mineonline.settings.suggestions import _ELSEWHERE
from mineonline.settings.words import groups, help_topics
from tests.helpers.settings import ROOT

SETTINGS = compose_settings([])


def test_every_key_has_a_meaning_and_every_section_too():
    assert [each.key for each in all_settings() if not each.meaning] == []
    assert len(all_settings()) > 140
    assert all(section_meanings().values())


def test_help_shows_every_key_with_its_value_and_fits_100_columns():
    shown = train_help(SETTINGS, groups(), [])
    assert max(map(len, shown.splitlines())) <= 100
    for each in all_settings():
        if each.choice in ("", "env=world", "policy=tiny"):
            assert re.search(rf"^  {re.escape(each.key)}\b", shown, re.MULTILINE) or each.key == "trainer", each.key
    assert re.search(r"^  buffer\.max_staleness +8 +Fragments with more lag", shown, re.MULTILINE)
    assert "gate, hunt_cow, shoot" in shown


def test_help_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for topic in ("", "optimizer", "env", "policy", "task", "trainer"):
        shown = train_help(SETTINGS, groups(), [topic] if topic else [])
        assert max(map(len, shown.splitlines())) <= 100 if not topic else 80


def test_help_about_a_section_or_a_key_says_all_of_it():
    (topics,) = [help_topics(["--help", "optimizer.target_kl", "seed=1"])]
    assert topics == ["optimizer.target_kl"]
    shown = " ".join(train_help(SETTINGS, groups(), topics).split())
    assert "usually 0.01 to 0.05. 0: no limit. (number, 0 or more)" in shown
    assert "its policy decides for all of them" in " ".join(train_help(SETTINGS, groups(), ["collector"]).split())
    gym = compose_settings(["env=gym"], complete=False)
    assert "env.id" in train_help(gym, groups(), ["env"])


def test_the_page_about_every_key_is_up_to_date():
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == page(), "python -m mineonline.settings.configuration_page > docs/configuration.md"


def test_other_projects_words_lead_to_keys_that_exist():
    known = {each.key for each in all_settings()} | {*groups(), "task.rewards"}
    assert [key for key in _ELSEWHERE if key not in known and not key.startswith("trainer.")] == []
    names = [name for names in _ELSEWHERE.values() for name in names.split()]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("kind", [each for each in vars(arguments).values() if hasattr(each, "__struct_fields__")])
def test_arguments_of_every_command_are_explained(kind):
    shown = describe_arguments(kind)
    assert max(map(len, shown.splitlines())) <= 100
    for name in kind.__struct_encode_fields__:
        assert re.search(rf"^  {re.escape(name)} ", shown, re.MULTILINE)
