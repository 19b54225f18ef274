"""What a person sees in a terminal: the `facefold` command, its live view, tables and reports."""
