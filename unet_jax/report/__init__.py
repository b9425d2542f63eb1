"""The report of a run: one HTML file that needs nothing else, from plain data.

The same report gives the same bytes. Its text may come from users; all is escaped.
"""

from unet_jax.report.contents import Case, Measure, Reliability, Report
from unet_jax.report.page import render

__all__ = ["Case", "Measure", "Reliability", "Report", "render"]
