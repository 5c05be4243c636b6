"""A second System 2 on the shipped base: other texts, another order, the same recipe."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from laconic.lab.family import WEIGHTS, LabPlan, building, export, folder, train_phase
from laconic.lab.phases import PHASES
from laconic.lab.sizes import MINI, size_of
from laconic.runtime import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

SEED: Final = 7


def train_second_system2(target: Path, *, progress: Progress = silent) -> Path:
    """Train a second System 2 from the shipped base, once; about four minutes of one core.

    Args:
        target: Its folder; a finished one is kept.
        progress: Told as training goes on.
    """
    from safetensors.torch import load_file

    from laconic.backends.contract.decoding import using_threads
    from laconic.checkpoints.layout import EMBED
    from laconic.lab.tokenizer import TRAINED

    if (target / WEIGHTS).exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    start = load_file(folder("base") / WEIGHTS)
    start[EMBED] = start[EMBED][:TRAINED]
    phase = next(phase for phase in PHASES if phase.name == "system2")
    with building(target) as beside, using_threads(1):
        state, _ = train_phase(phase, start, LabPlan(seed=SEED), progress=progress)
        export(state, beside, size_of(MINI))
    return target
