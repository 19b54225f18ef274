"""What the dataset is for: the systems of the field, trained from a store and scored."""
