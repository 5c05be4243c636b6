"""The study of training: TL;DR and what it is compared with, on three draws of everything."""

from studies.tldr.arms import ARMS, Arm, Scale
from studies.tldr.study import TldrFindings, study_tldr

__all__ = ["ARMS", "Arm", "Scale", "TldrFindings", "study_tldr"]
