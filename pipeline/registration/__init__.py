"""Lays a model's topology onto scans: start -> model -> residual -> fine, in batches."""

from pipeline.registration.methods import METHODS
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.register import register

__all__ = ["METHODS", "RegistrationOptions", "register"]
