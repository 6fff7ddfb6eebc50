"""Who starts, finds and outlives whom.

`sockets` opens every socket, with the keys that protect it; `join` lets a collector into a run; `supervisor` keeps the
trainer's own collectors alive; `lifetimes` ties children to their parents; `stopping` remembers a signal; `threads` and
`logs` keep what fails in the background from being lost.
"""
