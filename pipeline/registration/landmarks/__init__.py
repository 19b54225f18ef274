"""Landmarks of scans as a registration takes them: targets, their calibration, those it detects."""
