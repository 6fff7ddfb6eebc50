"""The learner: `module` runs an iteration, `sequences` is what it minimises over, `objective` has the formulas.

`cloning` adds behaviour cloning of recorded fragments.
"""
