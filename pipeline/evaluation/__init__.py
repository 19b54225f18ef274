"""The field's benchmarks: predictions scored as their authors do, and strictly beside it."""
