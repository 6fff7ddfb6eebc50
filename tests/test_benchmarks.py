"""The benchmarks use what is there: each can at least be started."""

import importlib

import pytest

from tests.conftest import ROOT

NAMES = sorted(file.stem for file in (ROOT / "tests" / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_all_that_it_measures(name):
    module = importlib.import_module(f"tests.benchmarks.{name}")
    assert callable(module.main)
