"""A run from start to end: `trainer` and `collector` build and connect the parts of the two kinds of process.

`folder`, `checkpoint`, `metrics` and `summary` are what a run writes. `evaluation`, `record_play`, `replay` and
`export` are what can be done with it afterwards; `readiness` says what this machine can run.
"""
