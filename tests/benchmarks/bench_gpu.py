"""What does a GPU do for VPT? Decisions per second, and rows per second and memory of the learner.

    python -m tests.benchmarks.bench_gpu [sizes, by default 1x 2x] [seconds for each measurement]

Needs a GPU, and MineStudio (`python -m mineonline.doctor --install`); about 7 minutes. Without a GPU it measures `mini`
on the CPU, to show that it works. `decide`: the policy, for pictures that are on the CPU, until the actions are there
again. `learn`: whole iterations under Lightning, on env=synthetic's pictures, with and without each option. MFU: the
FLOP of forward and backward passes (a backward pass as two forward passes; what checkpointing computes again is not
counted) over what PEAK_TFLOPS says that the GPU can do in bfloat16.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from mineonline.envs.build import env_spec
from mineonline.experience.buffer import Batch
from mineonline.experience.rollout import decide
from mineonline.fragment import Fragments, TensorField
from mineonline.policies.build import build_actor
from mineonline.run.learner import build_learner
from tests.benchmarks.bench_policy import config_for, quiet, sizes_of
from tests.helpers.fit import fit, fresh

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40": 181.0, "4090": 165.0}
"""Dense bfloat16, from NVIDIA's data sheets."""
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
ENVS = (16, 32) if GPU else (2, 4)
FRAGMENTS, LENGTH = (16, 64) if GPU else (4, 16)
WARM_UP = 3
"""Calls or iterations that are not counted: cuDNN chooses its algorithms, torch.compile compiles."""
OPTIONS = {
    "float32": [],
    "bf16": [],
    "bf16, checkpointing": ["policy.checkpointing=32"],
    "bf16, compiled": ["optimizer.compile=true"],
    "bf16, a reference": ["reference.kl_coef=0.2"],
}


def main() -> None:
    quiet()
    torch.set_float32_matmul_precision("high")
    words = sys.argv[1:]
    seconds = float(words.pop()) if words and words[-1].replace(".", "").isdigit() else 10.0
    name = torch.cuda.get_device_name() if GPU else "no GPU: not the figures that this is for"
    peak = next((tflops for known, tflops in PEAK_TFLOPS.items() if known in name), None)
    print(f"{name}, torch {torch.__version__}")
    for size in words or (("1x", "2x") if GPU else ("mini",)):
        for envs in ENVS:
            for precision in ("32-true", "bf16-mixed"):
                rate = decisions_per_s(size, envs, precision, seconds / 2)
                print(f"{size} decides for {envs} environments in {precision}: {rate:,.0f} decisions/s", flush=True)
        for title, overrides in OPTIONS.items():
            learn(size, title, overrides, seconds, peak)


def decisions_per_s(size: str, envs: int, precision: str, seconds: float) -> float:
    config = config_for(size)
    spec = env_spec(config.env, config.task)
    actor = build_actor(config, spec).eval().to(DEVICE)
    observation = {"image": torch.randint(0, 256, (envs, 1, *spec.observation["image"].shape), dtype=torch.uint8)}
    first, memory = torch.zeros(envs, dtype=torch.bool), actor.policy.initial_memory(envs)
    calls, began = -WARM_UP, 0.0
    with torch.inference_mode():
        while calls <= 0 or time.perf_counter() < began + seconds:
            if calls == 0:
                began = time.perf_counter()
            memory = decide(actor, observation, first, memory, {}, precision).memory
            calls += 1
    return calls * envs / (time.perf_counter() - began)


def learn(size: str, title: str, overrides: list[str], seconds: float, peak: float | None) -> None:
    precision = "32-true" if title == "float32" else "bf16-mixed"
    config = config_for(
        size, *overrides, f"fragment.length={LENGTH}", f"buffer.fragments_per_iteration={FRAGMENTS}",
        "optimizer.epochs=1", "optimizer.minibatches=4",
    )  # fmt: skip
    spec = env_spec(config.env, config.task)
    fragments = drawn(build_actor(config, spec).schema(spec, LENGTH), dict(spec.action))
    clocks: list[float] = []
    until = float("inf")

    def take() -> Batch:
        nonlocal until
        if GPU:
            torch.cuda.synchronize()
        if len(clocks) == WARM_UP:
            until = time.perf_counter() + seconds
            if GPU:
                torch.cuda.reset_peak_memory_stats()
        clocks.append(time.perf_counter())
        if time.perf_counter() > until:
            raise _Enough
        return fresh(fragments)

    with tempfile.TemporaryDirectory() as folder:
        learner = build_learner(config, spec, bad_batch_file=Path(folder) / "bad.pt")
        try:
            fit(learner, take, 10**9, Path(folder), accelerator=DEVICE.type, precision=precision)
        except _Enough:
            pass
        except torch.OutOfMemoryError:
            print(f"{size} learns, {title}: out of memory", flush=True)
            return
    rows_per_s = FRAGMENTS * LENGTH * (len(clocks) - 1 - WARM_UP) / (clocks[-1] - clocks[WARM_UP])
    flop_s = rows_per_s * sizes_of(size).flop * (4 + bool(config.reference.kl_coef))
    mfu = f", MFU {flop_s / peak / 1e12:.1%}" if peak else ""
    memory = f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if GPU else ""
    print(f"{size} learns, {title}: {rows_per_s:,.0f} rows/s{memory}, {flop_s / 1e12:.2f} TFLOP/s{mfu}", flush=True)


def drawn(schema: tuple[TensorField, ...], actions: dict[str, int]) -> Fragments:
    """Fragments that look like played ones to a GPU: random pictures and actions, no end of an episode."""
    tensors = {f.name: torch.zeros((FRAGMENTS, *f.shape), dtype=getattr(torch, f.dtype)) for f in schema}
    for name, tensor in tensors.items():
        if name.startswith("observation."):
            tensor.random_(0, 256)
        elif name.startswith("action."):
            tensor.random_(0, actions[name.removeprefix("action.")])
    tensors["log_prob_BT"] -= 10.0
    tensors["reward_BT"].normal_()
    tensors["env_B"] += torch.arange(FRAGMENTS)
    return Fragments.from_named_tensors(tensors)


class _Enough(Exception):
    """Ends a measurement."""


if __name__ == "__main__":
    main()
