"""Thresholds of the gates, which a build may replace."""

from __future__ import annotations

from pydantic import ConfigDict

from pipeline.registry.sections import Number, Section
from pipeline.units import OUTER_EYE_MM

Limits = tuple[Number, Number]


class Gates(Section):
    """Thresholds as (review, reject): beyond the first a person should look, beyond the second
    the scan is refused."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    scan_to_mesh_mm: Limits = (0.8, 1.5)
    """Median distance of the scan's points to the registered face."""
    landmark_error_mm: Limits = (6.0, 12.0)
    """Mean distance of the model's landmarks to the scan's."""
    coverage: Limits = (0.65, 0.25)
    """Share of the face's vertices with data; less is worse."""
    flipped_share: Limits = (0.005, 0.03)
    """Share of the face's triangles that are turned over."""
    outer_eye_mm: Limits = OUTER_EYE_MM
    """Smallest and largest distance of the outer eye corners; more than EYE_SLACK outside is
    refused. A source's own `limits` go before it."""
    bending_mm: Limits = (6.0, 9.0)
    """Median free-form displacement of the face less a rigid one; model with an identity basis."""
    template_bending_mm: Limits = (6.0, 10.0)
    """The same for a bare template, whose displacement is the whole identity."""
    shape_rms: Limits = (2.0, 3.0)
    """Root mean square of the identity coefficients; over many people it is about 1."""
    relief: Limits = (0.65, 0.55)
    """Correlation of nose, sockets and lips with the template's; less is worse."""
    normals_deg: Limits = (18.5, 19.5)
    """Median angle of the face's normals to those of the template laid onto it."""
    left_out_share: Limits = (0.2, 1.0)
    """Share of the file's surface or points that reading and cleaning left out."""
    covered_share: Limits = (0.13, 0.6)
    """Share of the scan's points at the face that lie in front of it, where it has no data."""
    scattered_share: Limits = (0.03, 0.6)
    """Share of them that lie apart from it where it has data all the same."""
    roughness: Limits = (0.048, 0.5)
    """1/mm by which the cheeks' curvature differs from the posed model's, see `Measures`."""
    template_roughness: Limits = (0.075, 0.5)
    """The same for a bare template, which has no cheeks but its own."""
    neutral_lip_gap_mm: Limits = (4.0, 1e3)
    """Opening of the lips of a scan that its source files as neutral, beyond the template's."""
    mouth_relief: Limits = (0.4, 0.0)
    """Share of the model's relief that the mouth shows."""
    mouth_depth_mm: Limits = (0.97, 0.0)
    """Depth of its relief, root mean square, of a face of usual size."""
    eye_relief: Limits = (0.34, 0.0)
    """Share of the model's relief that either eye shows."""
    eye_depth_mm: Limits = (0.68, 0.0)
    """Depth of its relief, as of the mouth."""
    part_slide: Limits = (0.0, 1e3)
    """Log odds, beyond what is usual, that any part slid along the surface."""
    part_landmarks: Limits = (1.0, 1e3)
    """Distance of a landmark in multiples of what is usual (`usual.py`); so the expected error."""
    part_expected: Limits = (1.0, 1e3)
