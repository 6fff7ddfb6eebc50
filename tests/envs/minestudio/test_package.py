"""MineStudio's modules are imported without the packages that they do not use. Each test runs in a fresh process."""

import subprocess
import sys

from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT


def output_of(program):
    """What a program prints, on either stream."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=ROOT
    )
    return (done.stdout + done.stderr).strip()


def test_vpt_is_imported_in_silence_without_the_other_models_and_leaves_no_half_package_behind():
    program = """
import sys
from mineonline.envs.minestudio.package import import_vpt
assert "torch" not in sys.modules and "minestudio" not in sys.modules
print(import_vpt().MinecraftPolicy.__name__, import_vpt() is import_vpt())
print("minestudio.models" in sys.modules, "torchvision" in sys.modules, "ray" in sys.modules)
"""
    assert output_of(program).splitlines() == ["MinecraftPolicy True", "False False False"]


def test_what_is_missing_is_named_with_the_cure():
    absent = """
import importlib.util
importlib.util.find_spec = lambda name: None
from mineonline.envs.minestudio.package import import_vpt
import_vpt()
"""
    assert output_of(absent).endswith(
        "EnvError: MineStudio is missing. Install it with  python -m mineonline.doctor --install"
    )
    incomplete = """
import sys
sys.modules["gym3"] = None
from mineonline.envs.minestudio.package import import_vpt
import_vpt()
"""
    assert output_of(incomplete).endswith(
        "EnvError: MineStudio is incomplete: the package gym3 is missing. "
        "Install it with  python -m mineonline.doctor --install"
    )


def test_numpy_gets_back_the_names_that_the_simulator_uses():
    program = """
from mineonline.envs.minestudio.package import restore_numpy_names
restore_numpy_names()
import numpy as np
from tests.helpers.settings import ROOT
print(np.unicode_("a"), np.string_(b"b"))
"""
    assert output_of(program) == "a b'b'"
