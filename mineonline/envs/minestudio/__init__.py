"""MineStudio's own simulator behind the contract, each in its own process, so that nothing it does can harm a worker.

    worker: env.MineStudioEnv ──pipes──▶ simulator.py (MinecraftSim, a process each) ──TCP──▶ java.py ▶ Minecraft
                                                                                          or ▶ envs/engine.py

In reading order: `requirements` (what must be installed), `package` (how MineStudio is imported), `messages` (what goes
over the pipes), `callbacks` (a task in MineStudio's terms), `simulator` (the process), `java` (keeps the engine from
outliving it), `starts` (how many engines start at once on a host), `process` (the worker's end of one simulator), `env`
(the contract). Only `simulator`, `callbacks` and `package` import MineStudio.
"""
