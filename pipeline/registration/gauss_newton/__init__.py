"""The fit of model and residual by Gauss–Newton: match, assemble, solve, update."""
