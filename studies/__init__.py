"""Studies on the lab: whole claims of the papers, asked of a family anyone can train."""

from studies.merging import Findings, study
from studies.page import write_page

__all__ = ["Findings", "study", "write_page"]
