"""How fast the embedded world is, in CPU time, so that other work on the machine disturbs the result less.

    python -m tests.benchmarks.bench_world

Prints a line for each picture size and number of environments: the best and the median of 40 complete vector steps of
hunt_cow (look-up of the actions, four ticks of physics, animals and rewards, one picture) with random legal actions.
The world of hunt_cow has ten animals nearby, which take about a third of the drawing time.
"""

import time
from pathlib import Path
from statistics import median

import numpy as np
import yaml

from mineonline.envs.actions import legal_buttons
from mineonline.envs.tasks import parse_task
from mineonline.envs.world import WorldEnv, warm_up

SIZES = [(64, 48), (64, 64), (128, 128)]
NUM_ENVS = [1, 8, 32]
STEPS = 40


def cpu_ms(work):
    """CPU milliseconds that a call takes in this process."""
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def bench(task, image_size, num_envs):
    dice = np.random.default_rng(0)
    legal = np.flatnonzero(legal_buttons(task.actions.forbid, task.actions.hold))
    env = WorldEnv(task, num_envs=num_envs, image_size=image_size, seed=0)
    everyone = np.ones(num_envs, np.bool_)
    reset_ms = cpu_ms(lambda: env.reset(everyone)) / num_envs
    steps_ms = []
    for _ in range(STEPS):
        action = {"buttons": dice.choice(legal, num_envs), "camera": dice.integers(0, 121, num_envs)}
        steps_ms.append(cpu_ms(lambda action=action: env.step(action, everyone)))
    best, usual = min(steps_ms), median(steps_ms)
    print(
        f"{image_size[0]:4d}x{image_size[1]:<4d} {num_envs:4d} envs  {best:8.2f} ms best {usual:8.2f} ms median  "
        f"{1e3 * num_envs / best:7.0f} env-steps/s/core best {1e3 * num_envs / usual:7.0f} median  "
        f"reset {reset_ms:.2f} ms"
    )


def main():
    print(f"compile, or load from the cache: {cpu_ms(warm_up):.0f} ms")
    task = parse_task(yaml.safe_load((Path(__file__).parents[2] / "conf" / "task" / "hunt_cow.yaml").read_text()))
    for image_size in SIZES:
        for num_envs in NUM_ENVS:
            bench(task, image_size, num_envs)


if __name__ == "__main__":
    main()
