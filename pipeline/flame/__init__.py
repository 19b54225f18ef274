"""The face model: FLAME's files read safely, or the embedded stand-in; linear blend skinning."""
