"""Geometry kernels in numpy, scipy and torch: rigid fits, closest points, normals, Laplacians."""
