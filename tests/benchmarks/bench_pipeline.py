"""What does distribution cost? Env steps per CPU second of the whole pipeline, relative to one tight loop.

    python -m tests.benchmarks.bench_pipeline [rounds] [key=value ...]

Both do the same work: the same environment, policy, fragments and PPO updates, one torch thread each. CPU seconds are
user + system time of all processes, between two iterations, so that start-up does not count. Each round measures both,
one after the other; the ratio of a round is what matters, since the machine is noisy. Target: 0.85 or more.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mineonline.envs.build import build_env, env_spec
from mineonline.fragment import Fragments
from mineonline.learning.objective import advantages, clipped_surrogate
from mineonline.policies.build import build_policy
from mineonline.policies.policy import Policy
from mineonline.settings.config import Config
from tests.helpers.programs import processes_of, rows
from tests.helpers.settings import config_of

WARM_UP, MEASURED = 4, 14


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 3
    overrides = [a for a in sys.argv[1:] if "=" in a] + ["torch_threads=1", "video.every=0"]
    torch.set_num_threads(1)
    config = config_of(*overrides)
    ratios = []
    for number in range(rounds):
        tight = tight_loop(config)
        whole = pipeline(overrides, config)
        ratios.append(whole / tight)
        print(f"round {number}: tight loop {tight:7.0f}, pipeline {whole:7.0f} env steps per CPU second, "
              f"ratio {ratios[-1]:.3f}", flush=True)  # fmt: skip
    print(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f} over {rounds} rounds")


def tight_loop(config: Config) -> float:
    """Env steps per CPU second when this process collects and learns in turn."""
    envs = config.buffer.fragments_per_iteration
    env = build_env(config.env, config.task, seed=config.seed, num_envs=envs, first_index=0)
    policy = build_policy(config, env_spec(config.env, config.task))
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=config.optimizer.learning_rate, eps=config.optimizer.eps,
        weight_decay=config.optimizer.weight_decay,
    )  # fmt: skip
    player = Player(env, policy, config.fragment.length)
    began = 0.0
    for iteration in range(WARM_UP + MEASURED):
        if iteration == WARM_UP:
            began = time.process_time()
        learn(config, policy, optimizer, player.collect())
    used_s = time.process_time() - began
    env.close()
    return MEASURED * envs * config.fragment.length / used_s


class Player:
    """Steps all environments; each `collect` fills the same batch of fragments again."""

    def __init__(self, env, policy: Policy, length: int) -> None:
        n = env.num_envs
        self.env, self.policy, self.length = env, policy, length
        self.observation = env.reset(np.ones(n, np.bool_))
        self.first = torch.ones(n, dtype=torch.bool)
        self.final = torch.zeros(n, dtype=torch.bool)
        self.memory = policy.initial_memory(n)
        zeros = torch.zeros(n, length)
        flags = torch.zeros(n, length, dtype=torch.bool)
        self.batch = Fragments(
            observation={
                name: torch.zeros((n, length + 1, *spec.shape), dtype=getattr(torch, spec.dtype))
                for name, spec in env.spec.observation.items()
            },
            first_BU=torch.zeros(n, length + 1, dtype=torch.bool),
            action={name: torch.zeros(n, length, dtype=torch.int64) for name in env.spec.action},
            log_prob_BT=zeros, value_BT=zeros.clone(), reward_BT=zeros.clone(), terminated_BT=flags,
            truncated_BT=flags.clone(), idle_BT=flags.clone(), memory={}, reference_memory={},
            version_B=torch.zeros(n, dtype=torch.int64),
            env_B=torch.arange(n), sequence_B=torch.zeros(n, dtype=torch.int64),
        )  # fmt: skip

    @torch.no_grad()
    def collect(self) -> Fragments:
        b = self.batch
        b = Fragments(**{**b.__dict__, "memory": {k: v.clone() for k, v in self.memory.items()}})
        for t in range(self.length + 1):
            for name, array in self.observation.items():
                b.observation[name][:, t] = torch.from_numpy(array)
            b.first_BU[:, t] = self.first
            if t == self.length:
                return b
            rows = {name: tensor[:, t : t + 1] for name, tensor in b.observation.items()}
            output = self.policy(rows, self.first.unsqueeze(1), self.memory)
            action = self.policy.head.sample(output.logits)
            self.memory = output.memory
            b.log_prob_BT[:, t] = self.policy.head.log_prob(output.logits, action)[:, 0]
            b.value_BT[:, t] = output.value_BT[:, 0]
            step = self.env.step({k: v[:, 0].numpy() for k, v in action.items()}, ~self.final.numpy())
            for name, chosen in action.items():
                b.action[name][:, t] = chosen[:, 0]
            b.reward_BT[:, t] = torch.from_numpy(step.reward_N)
            b.terminated_BT[:, t] = torch.from_numpy(step.terminated_N)
            b.truncated_BT[:, t] = torch.from_numpy(step.truncated_N)
            b.idle_BT[:, t] = self.final
            self.first = b.terminated_BT[:, t] | self.final
            self.final = b.truncated_BT[:, t].clone()
            begins = self.first.numpy()
            self.observation = self.env.reset(begins) if begins.any() else step.observation
        raise AssertionError


def learn(config: Config, policy: Policy, optimizer: torch.optim.Optimizer, batch: Fragments) -> None:
    """One PPO iteration."""
    parts = torch.arange(len(batch)).chunk(config.optimizer.minibatches)
    with torch.no_grad():
        value = torch.cat([policy(batch[i].observation, batch[i].first_BU, batch[i].memory).value_BT for i in parts])
    advantage = advantages(batch, value, discount=config.objective.discount, trace=config.objective.trace)
    target = advantage + value[:, :-1]
    decided = ~batch.idle_BT
    advantage = (advantage - advantage[decided].mean()) / (advantage[decided].std() + 1e-8)
    for _ in range(config.optimizer.epochs):
        for i in torch.randperm(len(batch)).chunk(config.optimizer.minibatches):
            part = batch[i]
            output = policy({k: v[:, :-1] for k, v in part.observation.items()}, part.first_BU[:, :-1], part.memory)
            ratio = (policy.head.log_prob(output.logits, part.action) - part.log_prob_BT).exp()
            loss = (
                clipped_surrogate(ratio, advantage[i], config.objective.clip)
                + config.objective.value_coef * 0.5 * (output.value_BT - target[i]) ** 2
                - config.objective.entropy_coef * policy.head.entropy(output.logits)
            )
            optimizer.zero_grad()
            loss[~part.idle_BT].mean().backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), config.optimizer.max_grad_norm)
            optimizer.step()


def pipeline(overrides: list[str], config: Config) -> float:
    """Env steps per CPU second of a training run: trainer, collector and workers together."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        arguments = [*overrides, f"run_dir={run_dir}", "iterations=100000"]
        run = subprocess.Popen(
            [sys.executable, "-m", "mineonline.train", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            before = cpu_seconds(run_dir, WARM_UP)
            after = cpu_seconds(run_dir, WARM_UP + MEASURED)
        finally:
            run.terminate()
            run.wait(30)
    steps_per_iteration = config.buffer.fragments_per_iteration * config.fragment.length
    return (after[0] - before[0]) * steps_per_iteration / (after[1] - before[1])


def cpu_seconds(run_dir: Path, iteration: int) -> tuple[int, float]:
    """Iterations done and CPU seconds of all processes of a run, as soon as `iteration` is done (within 300 s)."""
    deadline = time.monotonic() + 300
    while rows(run_dir) < iteration:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run_dir} did not reach iteration {iteration}")
        time.sleep(0.02)
    used = [process.cpu_times() for process in processes_of(run_dir)]
    return rows(run_dir), sum(times.user + times.system for times in used)


if __name__ == "__main__":
    main()
