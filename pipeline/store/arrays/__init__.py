"""How the rows of a field lie in files, and are read from there."""
