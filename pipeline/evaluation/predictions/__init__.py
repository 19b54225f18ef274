"""What users deliver, and what they get wrong in it."""
