"""facefold: many 3D face scan datasets folded into one metric, registered, sharded dataset."""

__version__ = "0.7.0"
