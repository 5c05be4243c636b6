"""Studies on the lab: whole claims of the papers, asked of a family anyone can train."""

from laconic.lab.study.merging import Findings, study
from laconic.lab.study.page import write_page

__all__ = ["Findings", "study", "write_page"]
