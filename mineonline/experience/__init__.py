"""PATH 1: fragments, from the environments to the learner.

In reading order: `rollout`, `async_player` and `worker` (worker process), `collector` (collector process), `wire`
(from process to process), `buffer` and `datamodule` (trainer). Besides these, `relay` passes a node's fragments on,
`episodes` keeps scores, `disk_storage` is a buffer on disk, and `fragment_files` writes and reads recorded fragments.
"""
