"""What training minimises, one kind of loss a file."""
