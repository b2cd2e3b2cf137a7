"""Figures and the HTML report of recorded episodes; matplotlib is imported when one is drawn."""

from jaxtrade.report.figures import render_history
from jaxtrade.report.tearsheet import write_report
from jaxtrade.report.verdict import Verdict, judge

__all__ = ["Verdict", "judge", "render_history", "write_report"]
