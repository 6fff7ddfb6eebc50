"""PATH 2: the newest weights, from the learner to every collector."""
