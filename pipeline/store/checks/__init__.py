"""Whether a version is what its listing says: files, tables, rows, every byte."""
