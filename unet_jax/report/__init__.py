"""Reports: one HTML file each that needs nothing else, from plain data.

The same data give the same bytes. Their text may come from users; all is escaped.
"""

from unet_jax.report.contents import Case, Measure, Reliability, Report
from unet_jax.report.findings import Inspection
from unet_jax.report.inspection import inspected
from unet_jax.report.page import render

__all__ = [
    "Case",
    "Inspection",
    "Measure",
    "Reliability",
    "Report",
    "inspected",
    "render",
]
