"""The study of training: TL;DR and what it is compared with, on three draws of everything."""

from laconic.lab.study.tldr.arms import ARMS, Arm, Scale
from laconic.lab.study.tldr.study import TldrFindings, study_tldr

__all__ = ["ARMS", "Arm", "Scale", "TldrFindings", "study_tldr"]
