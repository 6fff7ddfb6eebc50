"""What is compiled belongs to its sources: every checkout of them finds it, and none finds another version."""

import os
import shutil
import subprocess
import sys

from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT

FOLDER = "from mineonline.envs.world import jit; print(jit._FOLDER)"
WARM_UP = """
from mineonline.envs.world import jit, warm_up
warm_up()
print(jit._FOLDER)
print(sum(count for kernel in jit._kernels for count in kernel.stats.cache_misses.values()))
"""
COMPILE_ONE = """
import numpy
from mineonline.envs.world import jit
from mineonline.envs.world.chance import mix
with jit.progress(print):
    mix(numpy.uint64(1))
"""


def said_by(code, checkout=ROOT, cache=None):
    variables = {**os.environ, "PYTHONPATH": str(checkout)}
    if cache is not None:
        variables["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, env=variables, cwd=checkout,
        check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def copy_of_the_package(folder):
    shutil.copytree(
        ROOT / "mineonline", folder / "mineonline", ignore=shutil.ignore_patterns("__pycache__", "conf"),
        copy_function=shutil.copyfile,  # with times of its own
    )  # fmt: skip
    return folder


def test_a_second_checkout_of_the_same_sources_compiles_nothing(tmp_path):
    folder, _ = said_by(WARM_UP)
    assert said_by(WARM_UP, copy_of_the_package(tmp_path)) == [folder, "0"]


def test_a_change_in_any_source_of_the_world_compiles_anew(tmp_path):
    copy = copy_of_the_package(tmp_path)
    for source in (copy / "mineonline/envs/world/trace.py", copy / "mineonline/envs/names.py"):
        before = source.read_bytes()
        times = source.stat()
        source.write_bytes(before.replace(b"e", b"a", 1))  # in its docstring
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert said_by(FOLDER, copy) != said_by(FOLDER)
        source.write_bytes(before)
    assert said_by(FOLDER, copy) == said_by(FOLDER)


def test_compiling_says_how_far_it_is_and_loading_says_nothing(tmp_path):
    (line,) = said_by(COMPILE_ONE, cache=tmp_path)
    assert line.startswith("compiling the world: 0 of ")
    assert line.endswith(" functions, once for this version of mineonline")
    assert said_by(COMPILE_ONE, cache=tmp_path) == []
