"""Torch datasets over a published store; needs only numpy, torch and the store's reader."""

from pipeline.loaders.dataset import FaceDataset

__all__ = ["FaceDataset"]
