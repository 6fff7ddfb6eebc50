"""env=minestudio: MineStudio's unmodified simulator over the engine's protocol, with the embedded world as engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import torch
import yaml

from mineonline.envs.actions import CAMERA_BINS_DEGREES, GROUPS, encode_buttons, encode_camera
from mineonline.envs.contract import TensorSpec
from mineonline.envs.minestudio import requirements
from mineonline.envs.minestudio.env import MineStudioEnv
from mineonline.envs.minestudio.package import restore_numpy_names
from mineonline.envs.minestudio.simulator import count_of, deaths_of
from mineonline.envs.minestudio.starts import turn_to_start
from mineonline.envs.settings import DeclaredObservation, MineStudioEnvConfig
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.tasks import parse_task
from mineonline.envs.world import MixedWorlds, WorldEnv
from mineonline.errors import ConfigError, EnvError
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.run.metrics import read_metrics
from mineonline.settings.parsing import parse_config
from tests.helpers.programs import LIMIT_S, processes_of, wait_until
from tests.helpers.settings import ROOT, checkpoint_of, config_of

SETTINGS = MineStudioEnvConfig(
    engine="world", image_size=(48, 40), render_size=(48, 40), host_starts=4, start_timeout_s=300, step_timeout_s=30,
    restart_interval_s=0, max_fast_resets=0, max_failures=3,
)  # fmt: skip

pytestmark = pytest.mark.program
HURT = "/effect give @p minecraft:instant_damage"
NO_OP = {"buttons": 0, "camera": 60}


def task_of(name, **changes):
    return parse_task({**_composed(name), **changes})


def _composed(name):
    task = config_of(f"task={name}").task
    return msgspec.to_builtins(task)


@pytest.fixture
def open_env():
    """Build environments whose simulators are killed when the test ends: closing one takes MineStudio 3 s."""
    opened = []

    def build(task, num_envs=1, seed=0, **settings):
        env = MineStudioEnv(msgspec.structs.replace(SETTINGS, **settings), task, num_envs=num_envs, seed=seed)
        opened.append(env)
        env.reset(np.ones(num_envs, np.bool_))
        return env

    yield build
    for slot in (slot for env in opened for slot in env.slots):
        if slot.process is not None:
            slot.process.end()


def actions(env, **classes):
    return {name: np.full(env.num_envs, classes.get(name, nothing)) for name, nothing in NO_OP.items()}


def wait_until_ready(env, steps=None):
    """`steps`: a list that collects the steps in between."""
    deadline = time.monotonic() + LIMIT_S
    while env.waiting_N.any():
        assert time.monotonic() < deadline, "no episode started"
        step = env.step(actions(env), np.zeros(env.num_envs, np.bool_))
        if steps is not None:
            steps.append(step)


def step_all(env, action=None):
    return env.step(action or actions(env), ~env.waiting_N)


def engines_of(env):
    """The engine's processes, by environment."""
    found = {}
    for n, slot in enumerate(env.slots):
        for process in psutil.Process(slot.process.process.pid).children(recursive=True):
            if "mineonline.envs.engine" in process.cmdline():
                found[n] = process
    return found


def purposeful_action(world, random):
    """Turns to the nearest animal, or looks down if there is none; walks, hits and uses at random."""
    player = world.player[0]
    eye = np.array([player["x"], player["y"] + 1.62, player["z"]])
    mobs = world.mob[0][(world.mob[0]["kind"] >= 0) & (world.mob[0]["dying"] == 0)]
    pitch, yaw = 50.0, float(player["yaw"])
    if len(mobs):
        ways = np.stack([mobs["x"], mobs["y"] + 0.7, mobs["z"]], 1) - eye
        dx, dy, dz = ways[np.argmin((ways**2).sum(1))]
        pitch, yaw = -np.degrees(np.arctan2(dy, np.hypot(dx, dz))), np.degrees(np.arctan2(-dx, dz))
    turns = pitch - player["pitch"], (yaw - player["yaw"] + 180) % 360 - 180 + random.normal()
    choice = dict.fromkeys(GROUPS, 0) | {"camera": 1}
    for group, chance in {"fore_back": 0.7, "attack": 0.6, "use": 0.93}.items():
        choice[group] = int(random.random() < chance)
    camera = encode_camera(*(np.abs(CAMERA_BINS_DEGREES - turn).argmin() for turn in turns))
    return {"buttons": encode_buttons([list(choice.values())]), "camera": np.array([camera])}


def test_simulators_with_different_tasks_play_as_the_embedded_world_does(open_env):
    same = {"time_limit_ticks": 40, "action_repeat": 4}
    mix = TaskMix(tuple(task_of(name, **same) for name in ("hunt_cow", "shoot")), (1, 1), "run")
    through = open_env(mix, num_envs=2, seed=3)
    direct = MixedWorlds(mix, num_envs=2, image_size=(48, 40), seed=3)
    assert through.spec == direct.spec
    everyone = np.ones(2, np.bool_)
    told = direct.reset(everyone)["task"]
    wait_until_ready(through)
    draw = np.random.default_rng(0)
    for _ in range(10):
        action = {"buttons": draw.integers(8641, size=2), "camera": draw.integers(121, size=2)}
        pair = direct.step(action, everyone), step_all(through, action)
        for name in ("image", "task"):
            np.testing.assert_array_equal(*(step.observation[name] for step in pair))
        np.testing.assert_array_equal(*(step.reward_N for step in pair))
        np.testing.assert_array_equal(*(step.truncated_N for step in pair))
        np.testing.assert_allclose(pair[0].statistics_NK, pair[1].statistics_NK, atol=1e-4)
    assert pair[1].truncated_N.all()
    assert told.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["hunt_cow", "shoot", "gate"])
def test_the_embedded_world_is_the_same_through_the_simulator_and_directly(open_env, name):
    task = task_of(name, time_limit_ticks=160)
    through = open_env(task, seed=3)
    direct = WorldEnv(task, num_envs=1, image_size=(48, 40), seed=3)
    everyone = np.ones(1, np.bool_)
    direct.reset(everyone)
    wait_until_ready(through)
    random = np.random.default_rng(0)
    paid, ends = [], []
    for _ in range(2 * 160 // task.action_repeat):
        action = purposeful_action(direct.world, random)
        pair = direct.step(action, everyone), step_all(through, action)
        paid.append([float(step.reward_N[0]) for step in pair])
        ends.append([(bool(step.terminated_N[0]), bool(step.truncated_N[0])) for step in pair])
        np.testing.assert_array_equal(*(step.observation["image"] for step in pair))
        np.testing.assert_allclose(pair[0].statistics_NK, pair[1].statistics_NK, atol=1e-4)
        if any(ends[-1][0]):
            direct.reset(everyone)
            through.reset(everyone)
            wait_until_ready(through)
    np.testing.assert_allclose(*np.array(paid).T, atol=1e-5)
    assert [a for a, _ in ends] == [b for _, b in ends]
    assert sum(truncated for (_, truncated), _ in ends) == 2
    assert any(reward for reward, _ in paid), "nothing was ever paid, so no difference could show"


def test_a_time_limit_truncates_and_a_death_terminates(open_env):
    limit = open_env(task_of("hunt_cow", time_limit_ticks=8, mobs=[]))
    fall = open_env(task_of("hunt_cow", time_limit_ticks=400, mobs=[], commands=[HURT, HURT, "/tp @p ~ ~15 ~"]))
    wait_until_ready(limit)
    wait_until_ready(fall)
    assert not step_all(limit).truncated_N[0]
    step = step_all(limit)
    assert (step.truncated_N[0], step.terminated_N[0], step.crashed_N[0]) == (True, False, False)
    for _ in range(50):
        step = step_all(fall)
        if step.terminated_N[0] or step.truncated_N[0]:
            break
    assert (step.truncated_N[0], step.terminated_N[0]) == (False, True)


def test_an_engine_that_dies_or_hangs_is_replaced_while_the_others_play(open_env):
    env = open_env(task_of("hunt_cow"), num_envs=3, step_timeout_s=8)
    wait_until_ready(env)
    engines = engines_of(env)
    engines[0].kill()
    engines[1].suspend()
    # a stop reaches a process of several threads only when its first one runs again; until then another may answer
    wait_until(lambda: engines[1].status() == psutil.STATUS_STOPPED)
    step = step_all(env)
    assert step.crashed_N.tolist() == step.truncated_N.tolist() == [True, True, False]
    assert not step.terminated_N.any()
    assert not step.reward_N[:2].any()
    env.reset(step.truncated_N)
    played = 0
    while env.waiting_N.any():
        played += 1
        assert not step_all(env).crashed_N.any()
    assert played > 20, "the third environment waited for the others"
    assert not step_all(env).crashed_N.any()
    assert psutil.pid_exists(engines[2].pid)
    assert not psutil.wait_procs([engines[0], engines[1]], timeout=LIMIT_S)[1]


def test_the_end_of_a_simulator_ends_its_engine_and_leaves_no_folder(open_env):
    env = open_env(task_of("hunt_cow"))
    wait_until_ready(env)
    simulator = env.slots[0].process
    engine = engines_of(env)[0]
    os.kill(simulator.process.pid, signal.SIGKILL)
    assert not psutil.wait_procs([engine], timeout=LIMIT_S)[1]
    wait_until(lambda: not simulator.scratch.exists())


def test_closing_ends_the_engine_and_leaves_no_folder(open_env):
    env = open_env(task_of("hunt_cow"))
    wait_until_ready(env)
    simulator, engine = env.slots[0].process, engines_of(env)[0]
    env.close()
    assert not psutil.wait_procs([engine], timeout=LIMIT_S)[1]
    assert not simulator.scratch.exists()
    env.close()


def test_killing_the_worker_leaves_nothing_behind(tmp_path):
    program = (
        "import numpy as np, time; from tests.envs.minestudio.test_env import *;"
        "env = MineStudioEnv(SETTINGS, task_of('hunt_cow'), num_envs=2, seed=0);"
        "env.reset(np.ones(2, bool)); wait_until_ready(env); print('ready', flush=True); time.sleep(600)"
    )
    surroundings = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=surroundings)
    try:
        assert worker.stdout.readline() == b"ready\n"
        children = psutil.Process(worker.pid).children(recursive=True)
        assert sum("mineonline.envs.engine" in child.cmdline() for child in children) == 2
    finally:
        worker.kill()
        worker.wait()
    _, alive = psutil.wait_procs(children, timeout=LIMIT_S)
    assert not alive
    assert not list(tmp_path.glob("mineonline-*"))


def test_engines_grow_old_and_land_is_made_anew(open_env):
    env = open_env(task_of("hunt_cow", time_limit_ticks=4, mobs=[]), max_fast_resets=1)
    wait_until_ready(env)
    resets = []
    for _ in range(3):
        assert step_all(env).truncated_N[0]
        env.reset(np.ones(1, np.bool_))
        resets.append(env.slots[0].order.hard)
        wait_until_ready(env)
    assert resets == [False, True, False]
    old = engines_of(env)[0]
    env._config = msgspec.structs.replace(env._config, restart_interval_s=0.01)
    env.reset(np.ones(1, np.bool_))
    wait_until_ready(env)
    assert engines_of(env)[0].pid != old.pid


def test_a_callback_that_raises_ends_the_run_with_its_name(open_env, tmp_path, monkeypatch):
    (tmp_path / "my_callbacks.py").write_text(
        "from minestudio.simulator.callbacks import MinecraftCallback\n"
        "class Broken(MinecraftCallback):\n"
        "    def after_step(self, sim, obs, reward, terminated, truncated, info):\n"
        "        return info['no_such_key']\n"
        "class Forgetful(MinecraftCallback):\n"
        "    def after_step(self, sim, obs, reward, terminated, truncated, info):\n"
        "        return obs, reward, terminated, truncated, {}\n"
        "class Silent(MinecraftCallback):\n"
        "    def after_step(self, *arguments): pass\n"
        "class Success(MinecraftCallback):\n"
        "    def __init__(self, reward): self.reward = reward\n"
        "    def after_step(self, sim, obs, reward, terminated, truncated, info):\n"
        "        return obs, reward + self.reward, True, truncated, info\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    succeeds = open_env(task_of("hunt_cow", callbacks=[{"_target_": "my_callbacks.Success", "reward": 7}]))
    wait_until_ready(succeeds)
    step = step_all(succeeds)
    assert (float(step.reward_N[0]), bool(step.terminated_N[0])) == (7.0, True)
    for name, complaint in {
        "Broken": r"my_callbacks\.Broken: its after_step raised KeyError: 'no_such_key' .*my_callbacks\.py, line 4",
        "Forgetful": r"Forgetful: its after_step must keep what is in the observation and the info, but '\w+' is gone",
        "Silent": r"Silent: its after_step returned None, but must return 5 values",
    }.items():
        wrong = open_env(task_of("hunt_cow", callbacks=[{"_target_": f"my_callbacks.{name}"}]))
        wait_until_ready(wrong)
        with pytest.raises(EnvError, match=complaint):
            step_all(wrong)
    missing = open_env(task_of("hunt_cow", callbacks=[{"_target_": "my_callbacks.Missing"}]))
    with pytest.raises(EnvError, match=r"task\.callbacks\[0\]\._target_=my_callbacks\.Missing: cannot be imported"):
        wait_until_ready(missing)


WRITER = """
import numpy as np
from minestudio.simulator.callbacks import MinecraftCallback

class Writer(MinecraftCallback):
    def after_reset(self, sim, obs, info):
        self.ticks = 0
        return self.write(obs), info

    def before_step(self, sim, action):
        self.ticks += 1
        return action

    def after_step(self, sim, obs, reward, terminated, truncated, info):
        return self.write(obs), reward, terminated, truncated, info

    def write(self, obs):
        obs["goal"] = np.arange(6, dtype=np.uint8).reshape(2, 3) + self.ticks
        obs["text"] = np.array([0.5, -self.ticks], np.float32)
        obs["number"] = np.array(self.ticks)
        obs["mask"] = np.array([True, self.ticks > 0])
        obs["unread"] = "not declared, so nobody looks"
        return obs

class Late(Writer):
    def after_reset(self, sim, obs, info):
        return obs, info
"""
DECLARED = {
    "goal": DeclaredObservation((2, 3), "uint8"), "text": DeclaredObservation((2,), "float32"),
    "number": DeclaredObservation((), "int64"), "mask": DeclaredObservation((2,), "bool"),
}  # fmt: skip


def test_what_a_callback_writes_into_obs_is_seen_where_it_is_declared(open_env, tmp_path, monkeypatch):
    (tmp_path / "writers.py").write_text(WRITER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    task = task_of("hunt_cow", callbacks=[{"_target_": "writers.Writer"}], action_repeat=3)
    env = open_env(task, num_envs=2, observations=DECLARED)
    assert env.spec.observation["goal"] == TensorSpec((2, 3), "uint8")
    assert list(env.spec.observation) == ["image", *DECLARED]
    wait_until_ready(env)
    first = {name: array.copy() for name, array in step_all(env).observation.items()}
    second = env.step(actions(env), np.array([True, False])).observation
    assert set(first) == {"image", *DECLARED}
    assert second["number"].tolist() == [6, 3]
    np.testing.assert_array_equal(first["goal"], np.arange(6).reshape(2, 3) + np.full((2, 1, 1), 3))
    np.testing.assert_array_equal(second["text"], np.array([[0.5, -6], [0.5, -3]], np.float32))
    assert second["mask"].all()
    assert {name: array.dtype.name for name, array in second.items()} == {
        "image": "uint8", "goal": "uint8", "text": "float32", "number": "int64", "mask": "bool"
    }  # fmt: skip
    late = open_env(task_of("hunt_cow", callbacks=[{"_target_": "writers.Late"}]), observations=DECLARED)
    with pytest.raises(EnvError, match=r"obs\['goal'\] is absent after the after_reset .*writers\.Late\)\. Write it"):
        wait_until_ready(late)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (np.zeros(3), "is float64 [3], but must be float32 [3]"),
        (np.zeros(2, np.float32), "is float32 [2], but must be float32 [3]"),
        (np.array([0, np.nan, 0], np.float32), "has numbers that are not finite"),
        ([0.0, 0.0, 0.0], "is a list, but must be a numpy array"),
        (None, "is absent"),
    ],
)
def test_what_differs_from_what_was_declared_is_named(found, expected):
    restore_numpy_names()
    from mineonline.envs.minestudio.callbacks import CallbackError, declared_of

    declared = {"goal": TensorSpec((3,), "float32")}
    observation = {"image": 0} if found is None else {"image": 0, "goal": found}
    with pytest.raises(CallbackError) as error:
        declared_of("after_step", observation, declared, [{"_target_": "my.Goal"}, {"_target_": "my.Other"}])
    assert str(error.value) == (
        f"env.observations.goal: obs['goal'] {expected} after the after_step of the callbacks (task.callbacks: "
        "my.Goal, my.Other). Write it in both after_reset and after_step, or change env.observations."
    )


def test_what_a_callback_hands_on_is_looked_at_before_anybody_relies_on_it():
    restore_numpy_names()
    from minestudio.simulator.callbacks import MinecraftCallback

    from mineonline.envs.minestudio.callbacks import CallbackError, Watched

    class Returns(MinecraftCallback):
        def __init__(self, change):
            self.change = change

        def after_step(self, sim, obs, reward, terminated, truncated, info):
            return self.change(obs, reward, terminated, truncated, info)

    def step_with(change):
        return Watched(Returns(change)).after_step(None, {"image": 0}, 1.0, False, False, {"health": 20.0})

    assert step_with(lambda *found: found) == ({"image": 0}, 1.0, False, False, {"health": 20.0})
    for complaint, change in {
        "returned the reward None, which is not a number": lambda obs, _, *rest: (obs, None, *rest),
        "the observation first and the info last": lambda obs, *rest: (None, *rest),
        "'health' is gone": lambda *found: found[-1].clear() or found,
        "'image' is gone": lambda obs, *rest: ({"picture": 0}, *rest),
        "must return 5 values": lambda *found: found[:2],
    }.items():
        with pytest.raises(CallbackError, match=rf"Returns: its after_step .*{complaint}.*task\.callbacks"):
            step_with(change)


def test_an_engine_that_does_not_start_is_tried_again_and_then_named(machine, open_env):
    version = "echo 'openjdk version \"1.8.0_412\"' >&2"
    machine.program("java", f'case "$*" in *-version*) {version};; *) echo "no GL context"; exit 3;; esac')
    requirements.check("minecraft")
    began = time.monotonic()
    env = open_env(task_of("hunt_cow"), engine="minecraft", max_failures=3)
    steps = []
    with pytest.raises(EnvError, match=r"(?s)environment 0 failed 3 times.*no GL context.*mineonline\.doctor"):
        wait_until_ready(env, steps=steps)
    assert sum(int(step.crashed_N[0]) for step in steps) == 2, "the third one ends the run"
    assert not any(step.truncated_N[0] for step in steps), "no episode was played"
    assert time.monotonic() - began > 1, "there was no pause"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine that seems to have all that Minecraft needs; tests take things away."""

    class Machine:
        home = tmp_path / "MineStudio"
        programs = tmp_path / "bin"

        def program(self, name, script):
            file = self.programs / name
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)

    machine = Machine()
    machine.programs.mkdir()
    (machine.home / "runtime").mkdir(parents=True)
    jar = machine.home / requirements.JAR
    jar.parent.mkdir(parents=True)
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", "")
    machine.program("java", "echo 'openjdk version \"1.8.0_412\"' >&2")
    machine.program("xvfb-run", 'shift; exec "$@"')
    machine.program("xauth", "")
    monkeypatch.setenv("PATH", str(machine.programs))
    monkeypatch.setenv("MINESTUDIO_DIR", str(machine.home))
    monkeypatch.delenv("MINESTUDIO_GPU_RENDER", raising=False)
    return machine


def test_a_machine_that_has_everything_is_ready(machine):
    requirements.check("minecraft")


DEFECTS = {
    "no jar": (lambda m: (m.home / requirements.JAR).unlink(), r"engine: .*\.jar is missing\. Type  .* --engine"),
    "half a jar": (lambda m: (m.home / requirements.JAR).write_bytes(b"half"), r"\(4 bytes\) is not a jar: its"),
    "no runtime": (lambda m: (m.home / "runtime").rmdir(), r"engine: .*runtime is missing, but the jar is there"),
    "Java 17": (
        lambda m: m.program("java", "echo 'openjdk version \"17.0.15\"' >&2"),
        r"Java 8: .* is Java 17\.0\.15\. Install it.*openjdk=8",
    ),
    "no display": (lambda m: (m.programs / "xvfb-run").unlink(), r"there is no xvfb-run in PATH\. Type  apt install"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_missing_is_named_with_its_cure(machine, defect):
    take, named = DEFECTS[defect]
    take(machine)
    with pytest.raises(EnvError, match=named):
        requirements.check("minecraft")


def test_the_display_of_a_gpu_needs_virtualgl(machine, monkeypatch):
    monkeypatch.setenv("MINESTUDIO_GPU_RENDER", "1")
    with pytest.raises(EnvError, match="there is no vglrun in PATH"):
        requirements.check("minecraft")


def test_an_engine_whose_info_lacks_what_is_needed_is_named():
    info = {"kill_entity": {"cow": np.array(2)}, "custom": {"deaths": 1}}
    assert count_of(info, "kill_entity", "cow") == 2
    assert count_of(info, "kill_entity", "pig") == 0
    assert deaths_of(info) == 1
    assert deaths_of({"health": 20.0}) == 0
    with pytest.raises(ConfigError, match=r"no 'mine_block', which the task pays for \(it has: custom, kill_entity\)"):
        count_of(info, "mine_block", "oak_log")
    with pytest.raises(ConfigError, match="deaths could not be seen"):
        deaths_of({"kill_entity": {}})


def test_only_so_many_engines_of_a_host_start_at_once(tmp_path):
    program = (
        "import sys, time; from mineonline.envs.minestudio.starts import turn_to_start\n"
        "with turn_to_start(2, waits=lambda: None):\n"
        "    print(time.monotonic(), flush=True); time.sleep(0.5); print(time.monotonic(), flush=True)"
    )
    children = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(5)]
    spans = [tuple(map(float, child.communicate(timeout=LIMIT_S)[0].split())) for child in children]
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert most <= 2  # it is less if this user starts engines on this host at the same time
    with turn_to_start(1, waits=lambda: None):
        pass  # every slot is free again


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"batch_timeout_s=600: .* = 616 s\) would count as hung\. Give more"):
        config_of("env=minestudio", "env.step_timeout_s=200")
    with pytest.raises(ConfigError, match=r"silence_s=300: the run would end while engines may still start"):
        config_of("env=minestudio", "buffer.silence_s=300")
    for declared, expected in {
        "image={shape: [3], dtype: uint8}": r"env\.observations\.image: the picture is always there",
        "goal={shape: [3], dtype: float}": r"env\.observations\.goal\.dtype=float: there is no such choice.*bool\.",
        "goal={shape: [0], dtype: bool}": r"env\.observations\.goal\.shape=\[0\]: every size must be at least 1",
        "goal={shape: [3]}": r"env\.observations\[\.\.\.\]\.dtype: a value is missing",
        "goal={shape: [x], dtype: bool}": r"env\.observations={goal: .*}: shape\[\.\.\.\]: expected `int`, got `str`",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            config_of("env=minestudio", f"+env.observations.{declared}")
    with pytest.raises(
        ConfigError, match=r"env\.observations\.goal is not set yet\. Write \+env\.observations\.goal=\.\.\."
    ):
        config_of("env=minestudio", "env.observations.goal={shape: [3], dtype: bool}")
    with pytest.raises(ConfigError, match=r"env\.host_starts=0: must be at least 1"):
        config_of("env=minestudio", "env.host_starts=0")


def test_training_goes_on_when_an_engine_is_killed(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(
        "task=hunt_cow", "env=minestudio", "env.engine=world", "env.image_size=[64,48]", "env.render_size=[64,48]",
        "collector.workers=1", "collector.envs_per_worker=2", "fragment.length=16", "buffer.fragments_per_iteration=4",
        "iterations=100000", "task.time_limit_ticks=100", "optimizer.minibatches=1", "video.every=0",
        f"run_dir={run_dir}",
    )  # fmt: skip
    metrics = run_dir / "metrics.csv"

    def last(column):
        rows = read_metrics(metrics) if metrics.exists() else []
        return float(rows[-1][column]) if rows else 0.0

    worker_log = run_dir / "logs" / "collector-0-worker-0.log"
    run.wait_for(lambda: worker_log.exists() and "INFO 2 of 2 environments play" in worker_log.read_text())
    run.wait_for(lambda: last("iteration") > 1)
    engine = next(p for p in processes_of(run_dir) if "mineonline.envs.engine" in p.cmdline())
    engine.kill()
    run.wait_for(lambda: last("env_failures") == 1)
    seen = last("env_steps")
    run.wait_for(lambda: last("env_steps") > seen + 100)
    assert last("collector_restarts") == 0
    run.send(signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT, run.output
    assert "failed and is replaced at once: " in worker_log.read_text()
    assert "environments that failed and were replaced: 1 " in run.output
    assert not processes_of(run_dir)


@pytest.mark.slow
def test_a_callback_that_raises_late_ends_training_with_one_error(start, tmp_path):
    (tmp_path / "late.py").write_text(
        "from minestudio.simulator.callbacks import MinecraftCallback\n"
        "class Late(MinecraftCallback):\n"
        "    steps = 0\n"
        "    def before_step(self, sim, action):\n"
        "        self.steps += 1\n"
        "        if self.steps == 150: raise ValueError('not mine\\nerror: of somebody else')\n"
        "        return action\n"
    )
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run_dir = tmp_path / "run"
    run = start(
        "env=minestudio", "env.engine=world", "env.image_size=[64,48]", "env.render_size=[64,48]",
        "collector.envs_per_worker=1", "fragment.length=16", "buffer.fragments_per_iteration=1",
        "optimizer.minibatches=1", "video.every=0", f"run_dir={run_dir}", "+task.callbacks=[{_target_: late.Late}]",
        paths=[tmp_path],
    )  # fmt: skip
    assert run.wait() == 1
    assert len(run_dir.joinpath("metrics.csv").read_text().splitlines()) > 1, "it had learnt before"
    assert run.output.count("error: a collector cannot run: ") == 1, run.output
    assert "cannot run: the callback late.Late: its before_step raised ValueError: not mine" in run.output
    assert not processes_of(run_dir)
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before


@pytest.mark.slow
def test_an_evaluation_films_what_the_engine_draws(start, tmp_path):
    checkpoint = checkpoint_of(
        tmp_path / "run", "task=hunt_cow", "env=minestudio", "env.engine=world", "env.image_size=[64,48]",
        "env.render_size=[160,120]", "task.time_limit_ticks=40",
    )  # fmt: skip
    video = tmp_path / "film.mp4"
    run = start(f"checkpoint={checkpoint}", "episodes=2", f"video={video}", module="mineonline.evaluate")
    assert run.wait() == 0, run.output
    assert "2 episodes" in run.output
    import av

    with av.open(str(video)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == 40


def test_a_recording_has_no_fragment_in_which_nothing_was_played(start, tmp_path):
    checkpoint = checkpoint_of(
        tmp_path / "run", "task=hunt_cow", "env=minestudio", "env.engine=world", "env.image_size=[64,48]",
        "env.render_size=[64,48]", "collector.envs_per_worker=2", "fragment.length=8",
    )  # fmt: skip
    run = start(f"checkpoint={checkpoint}", "record=set", "fragments=6", module="mineonline.collect")
    assert run.wait() == 0, run.output
    found = RecordedFragments(tmp_path / "set")
    assert len(found) >= 6
    assert not found[torch.arange(len(found))].idle_BT.all(1).any()


def test_the_settings_are_read_back_from_a_run_folder():
    config = config_of("env=minestudio", "env.engine=world", "+env.observations.goal={shape: [3], dtype: bool}")
    again = parse_config(yaml.safe_load(yaml.safe_dump(msgspec.to_builtins(config))))
    assert again == config
