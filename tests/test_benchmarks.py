"""The benchmarks import what is there. What they call is seen when they run."""

import importlib

import pytest

from tests.helpers.settings import ROOT

NAMES = sorted(file.stem for file in (ROOT / "tests" / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name):
    module = importlib.import_module(f"tests.benchmarks.{name}")
    assert callable(module.main)
