"""A run from start to end: `trainer` and `collector` build and connect the parts of the two kinds of process.

`folder`, `checkpoint`, `metrics` and `summary` handle what a run writes. `evaluation`, `record_play`, `replay` and
`export` use it afterwards; `readiness` checks what this machine can run.
"""
