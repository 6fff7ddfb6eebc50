"""mineonline trains Minecraft agents online, with PPO, while they play.

Processes, and the two paths between them:

    collector process (c = 0..C-1)                        trainer process (rank r = 0..R-1)
    collect.py                                            train.py, training.py
    ┌─────────────────────────────────────┐               ┌─────────────────────────────────────┐
    │ worker processes (torchrl)          │  PATH 1       │ receiver thread                     │
    │   experience/rollout.py             │  experience   │   experience/receiver.py, wire.py   │
    │   N environments + policy copy      │ ────────────▶ │ fragment buffer                     │
    │     ▼ shared memory                 │  DEALER▶ROUTER│   experience/buffer.py              │
    │ experience/collector.py             │  to all ranks │ datamodule   experience/datamodule  │
    │   sends fragments, waits when full  │               │ learner      learning/module.py     │
    │                                     │  PATH 2       │   one PPO iteration a training_step │
    │ weights/subscriber.py               │ ◀──────────── │ publisher thread (rank 0)           │
    │   newest weights, between batches   │  SUB ◀ XPUB   │   weights/publisher.py              │
    └─────────────────────────────────────┘               └─────────────────────────────────────┘
             ▲ join.py: one REQ to rank 0 gives a collector the configuration and all addresses
             ▲ supervisor.py: rank 0 starts and restarts the collectors of its own machine

- PATH 1 blocks when the learner is behind; nothing is dropped uncounted (record: fragment.py, message: wire.py, the
  window that keeps what is under way small: links.py).
- PATH 2 overwrites: only the newest weights count (weights/message.py).
- An iteration, in the learner: first pass and sequences (sequences.py), advantages (advantage.py), losses
  (objective.py, cloning.py), steps (module.py).
- Beside a run: evaluate.py scores and films a checkpoint, record.py writes what it plays to disk, which recorded.py
  reads, replay.py looks at fragments that broke learning, export.py writes a VPT's files for MineStudio.
- `envs/minestudio/` plays MineStudio's simulator, a process each; `envs/engine.py` stands in for Minecraft.
- `envs/contract.py` is what an environment is, `policies/policy.py` what a policy is, `config.py` what can be set.
- What people extend: Lightning callbacks (the built-in ones: `callbacks/`), `conf/task/*.yaml`, policies, environments.

`learning`, `experience` and `weights` never import one another; only the entry points know Hydra.
"""
