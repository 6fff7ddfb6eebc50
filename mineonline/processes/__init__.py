"""How processes start, find and outlive one another.

`sockets` opens every socket, with the keys that protect it; `join` lets a collector into a run; `supervisor` replaces
the trainer's own collectors; `fork_server` starts workers fast; `lifetimes` ties children and folders to their parents;
`stopping` handles signals; `threads` and `logs` make sure that no failure in the background is lost.
"""
