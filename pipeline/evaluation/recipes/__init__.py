"""The parts that a recipe of the modular benchmark puts together."""
