"""The state of a run's mixture: its controller, its order of rows, and all evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from laconic.errors import TrainError
from laconic.training.controllers.contract import State
from laconic.training.data.mixture import DrawnCounts
from laconic.training.data.sampler import MixtureSampler, replay
from laconic.training.selection import Candidate, lacking, ranked, reached_plateau, should_stop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.training.bounds import Measurement
    from laconic.training.controllers.contract import Controller
    from laconic.training.data.mixture import MixturePlan
    from laconic.training.recipe import SelectSection

VERSION = 1


@dataclass
class MixtureState:
    """The mixture of a run, and the evaluated checkpoints that moved it.

    Attributes:
        controller: Moves the weights.
        state: The weights, and what the controller remembers.
        sampler: The order of the rows.
        system2: System 2's measurement, which checkpoints are compared with.
        rule: Which checkpoint is best, and when to stop.
        ahead: How many steps the loader draws rows ahead of the training.
        evaluated: The last step that was evaluated.
        records: Each evaluation and its effect on the mixture, as JSON holds it.
        candidates: The evaluated checkpoints, in order.
        stopped: The reason to end before the last step; empty for none.
    """

    controller: Controller
    state: State
    sampler: MixtureSampler
    system2: Candidate
    rule: SelectSection
    ahead: int
    evaluated: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    stopped: str = ""

    def observe(
        self, measured: Measurement, evaluated: Candidate, *, tokens: int | None = None
    ) -> None:
        """Move the mixture by an evaluation; it takes effect at the first step not drawn yet.

        Args:
            measured: The evaluation.
            evaluated: The checkpoint that was evaluated.
            tokens: The tokens trained on so far; None counts those of the drawn rows.
        """
        step = measured.step
        self.state, record = self.controller.update(self.state, measured)
        block = max(step + self.ahead, self.sampler.frontier)
        self.sampler.change(self.state.weights, block)
        recent, total = self._drawn(self.evaluated, step), self._drawn(0, step)
        self.candidates.append(evaluated)
        self.records.append(
            {
                **record,
                "from_step": block,
                "unit": self.sampler.plan.unit,
                "sample_shares": self._named(recent.sample_shares),
                "token_shares": self._named(recent.token_shares),
                "tokens": sum(total.tokens) if tokens is None else tokens,
                "thinking": evaluated.thinking,
                "lacking": lacking(evaluated, self.system2, self.rule),
                "best": self.best.step,
            }
        )
        self.evaluated = step
        self.stopped = should_stop(self.candidates, self.system2, self.rule) or reached_plateau(
            self.records, self.rule
        )

    @property
    def best(self) -> Candidate:
        """The best checkpoint so far."""
        return self.ranking[0]

    @property
    def ranking(self) -> list[Candidate]:
        """All checkpoints, best first."""
        return ranked(self.candidates, self.system2, self.rule)

    def to_dict(self) -> dict[str, Any]:
        """All that a checkpoint must keep, as JSON holds it."""
        return {
            "version": VERSION,
            "controller": self.state.to_dict(),
            "sampler": self.sampler.state(),
            "evaluated": self.evaluated,
            "records": self.records,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "stopped": self.stopped,
        }

    def restore(self, plan: MixturePlan, saved: Mapping[str, Any]) -> None:
        """Take the state that `to_dict` gave.

        Raises:
            TrainError: Where it is damaged, or of a run with other pools, seed, unit or batch.
        """
        try:
            if saved["version"] != VERSION:
                raise TrainError(
                    f"The mixture's state is of version {saved['version']}; this laconic reads "
                    f"version {VERSION}. Go on with the laconic that began the run."
                )
            self.sampler = MixtureSampler.resume(plan, saved["sampler"])
            self.state = State.from_dict(saved["controller"])
            self.evaluated = int(saved["evaluated"])
            self.records = list(saved["records"])
            self.candidates = [Candidate.from_dict(values) for values in saved["candidates"]]
            self.stopped = str(saved["stopped"])
        except (KeyError, TypeError, ValueError) as error:
            raise TrainError(f"The mixture's state is damaged ({error!r}).") from None

    def _drawn(self, first: int, last: int) -> DrawnCounts:
        """What steps from `first` up to, not including, `last` trained on."""
        blocks = islice(replay(self.sampler.plan, self.sampler.schedule), first, last)
        none = (0,) * len(self.sampler.plan.pools)
        return sum((drawn for _, drawn in blocks), DrawnCounts(none, none))

    def _named(self, shares: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(self.state.pools, (round(share, 6) for share in shares), strict=True))
