"""The learner: `module` runs an iteration, `sequences` prepares its data, `objective` has the formulas.

`cloning` adds behaviour cloning of recorded fragments.
"""
