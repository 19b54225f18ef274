"""How a system is trained: the loop, checkpoints, processes, curves."""
