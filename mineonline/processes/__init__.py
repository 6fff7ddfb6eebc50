"""How processes start, find and outlive one another.

`sockets` opens every socket, with the keys that protect it; `join` lets a collector into a run; `supervisor` keeps the
trainer's own collectors alive; `lifetimes` ties children to their parents; `stopping` handles signals; `threads` and
`logs` make sure that no failure in the background is lost.
"""
