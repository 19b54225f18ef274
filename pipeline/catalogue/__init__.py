"""A source's folder -> ScanRecord rows. Every file is accounted for, in exactly one class."""

from pipeline.catalogue.files import Catalogue, ImageFile, catalogue

__all__ = ["Catalogue", "ImageFile", "catalogue"]
