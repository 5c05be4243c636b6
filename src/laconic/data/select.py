"""Select: from the answers of runs to the rows of a pool, with every answer accounted for."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from laconic.data.answers import AnswerPair, Selection, TrainingAnswer, describe
from laconic.data.pools import file_digest
from laconic.errors import DataError, did_you_mean
from laconic.runs.run import results_file
from laconic.stats.difficulty import EASY, HARD, Ease

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from laconic.data.answers import Row, Thought
    from laconic.runs.run import Result, Run
    from laconic.tasks.contract.task import Task

Rule = Literal["shortest", "longest", "balanced", "all", "pairs"]
Problem = tuple[str, str]
#: What the loader of the TL;DR code (arXiv 2506.02678) counts; it drops above 11 of one word.
MARKERS: Final = (
    *("wait", "but", "however", "though", "converse", "complicated"),
    *("another", "different", "check", "evaluate", "try"),
)
#: Classes of length that `balanced` fills evenly: as wide as a factor of this.
STEP: Final = 1.5


@dataclass(frozen=True)
class Filter:
    """The conditions on selected answers; all must be right and complete, too.

    Attributes:
        levels: The task's own difficulties that are wanted; empty for all.
        ease: The difficulties by pass rate that are wanted; empty for all.
        easy: The share of right answers from which a problem is easy.
        hard: The share below which it is hard.
        min_tokens: The fewest tokens of an answer.
        max_tokens: The most.
        max_markers: How often an answer may hold any one of the markers.
        markers: Words that mark reflection, in any case, as whole words.
    """

    levels: tuple[int, ...] = ()
    ease: tuple[Ease, ...] = ()
    easy: float = EASY
    hard: float = HARD
    min_tokens: int | None = None
    max_tokens: int | None = None
    max_markers: int | None = None
    markers: tuple[str, ...] = MARKERS

    def __post_init__(self) -> None:
        if not 0 <= self.hard <= self.easy <= 1:
            raise DataError(
                f"easy and hard are shares of right answers with 0 <= hard <= easy <= 1, got "
                f"easy {self.easy:g} and hard {self.hard:g}."
            )
        for name in self.ease:
            if name not in get_args(Ease):
                raise DataError(
                    f"There is no difficulty '{name}'. {did_you_mean(name, get_args(Ease))}"
                )
        low, high = self.min_tokens, self.max_tokens
        if low is not None and high is not None and low > high:
            raise DataError(f"No answer has at least {low} and at most {high} tokens.")

    def problem(self, level: int | None, rate: float | None) -> str:
        """Why a problem is left out; empty where it is wanted."""
        if self.levels and level not in self.levels:
            return "other_level"
        if not self.ease:
            return ""
        if rate is None:
            return "no_reference"
        return "" if self.named(rate) in self.ease else "other_difficulty"

    def named(self, rate: float) -> Ease:
        """The difficulty of a share of right answers."""
        if rate >= self.easy - 1e-9:
            return "easy"
        return "medium" if rate >= self.hard - 1e-9 else "hard"

    def answer(self, result: Result) -> str:
        """Why an answer is left out; empty where it may be selected."""
        if not result.correct:
            return "wrong"
        if result.truncated:
            return "truncated"
        if _thought(result) == "open":
            return "unclosed_thought"
        if self.min_tokens is not None and result.length < self.min_tokens:
            return "too_short"
        if self.max_tokens is not None and result.length > self.max_tokens:
            return "too_long"
        if self.max_markers is not None and self._most_markers(result.text) > self.max_markers:
            return "markers"
        return ""

    def _most_markers(self, text: str) -> int:
        lower = text.lower()
        words = (rf"(?<![a-z]){re.escape(marker.lower())}(?![a-z])" for marker in self.markers)
        return max((len(re.findall(word, lower)) for word in words), default=0)


def select(
    runs: Sequence[Run],
    rule: Rule = "shortest",
    *,
    wanted: Filter | None = None,
    reference: Sequence[Run] = (),
    ratio: float = 1.5,
    limit: int | None = None,
    seed: int = 0,
    questions: Task | None = None,
) -> Selection:
    """Select right answers of runs for a pool.

    Args:
        runs: Complete runs; answers to one problem compete, whichever run they are from.
        rule: ``shortest`` or ``longest`` right answer of each problem; ``balanced`` takes one of
            each problem so that all lengths are about as frequent; ``all`` right answers; ``pairs``
            prefer the shortest to the longest.
        wanted: Filters.
        reference: The runs whose share of right answers says how difficult a problem is.
        ratio: How many times the shorter's tokens the longer answer of a pair must have.
        limit: The most rows; which ones, and in which order rows stand, is drawn from the seed.
        seed: The only source of randomness.
        questions: The problems in the wording to train on; by default the wording of the runs.

    Raises:
        DataError: For runs that are empty or unfinished, filters that cannot hold, or where
            nothing is left, with the reasons.
    """
    wanted = wanted or Filter()
    if rule not in get_args(Rule):
        raise DataError(f"There is no rule '{rule}'. {did_you_mean(rule, get_args(Rule))}")
    if ratio < 1:
        raise DataError(f"ratio must be at least 1, got {ratio:g}: longer tokens over shorter.")
    if wanted.ease and not reference:
        raise DataError(
            "A difficulty is the share of right answers in some run: say which one it is "
            "(--reference RUN; the run that is selected from will do)."
        )
    for run in (*runs, *reference):
        _refuse_unfinished(run)
    rates = _pass_rates(reference)
    dropped: Counter[str] = Counter()
    problems: dict[Problem, list[TrainingAnswer]] = {}
    failed = []
    for key, results in _by_problem(runs).items():
        if reason := wanted.problem(results[0][1].level, rates.get(key)):
            dropped[reason] += len(results)
            continue
        reasons = [wanted.answer(result) for _, result in results]
        dropped.update(filter(None, reasons))
        kept = [pair for pair, reason in zip(results, reasons, strict=True) if not reason]
        if not any(result.correct for _, result in results):
            failed.append(_name(key))
        if kept:
            problems[key] = [_answer(name, result) for name, result in kept]
    if questions is not None:
        _reword(problems, questions, dropped)
    order = sorted(problems, key=lambda key: _drawn(seed, key))
    rows = _choose(rule, [problems[key] for key in order], ratio, dropped)
    if limit is not None and len(rows) > limit:
        dropped["over_limit"] += sum(len(row.answers) for row in rows[limit:])
        rows = rows[:limit]
    if not rows:
        raise DataError(
            f"No answer is left: {describe(dropped)}. Relax the filters, or sample more answers."
        )
    step = {
        "step": "select",
        "rule": rule,
        **{name: value for name, value in asdict(wanted).items() if name != "markers"},
        "reference": [str(run.folder or run.name) for run in reference],
        **({"ratio": ratio} if rule == "pairs" else {}),
        "limit": limit,
        "seed": seed,
        "kept": len(rows),
        "dropped": dict(dropped),
    }
    return Selection(
        rows=tuple(rows),
        kind="pairs" if rule == "pairs" else "rows",
        sources=tuple(map(_source, runs)),
        dropped=dict(dropped),
        failed=tuple(sorted(failed)),
        steps=(step,),
    )


def _choose(
    rule: Rule, problems: Sequence[list[TrainingAnswer]], ratio: float, dropped: Counter[str]
) -> list[Row]:
    """The rows that a rule takes of each problem's answers; the others are counted."""
    if rule == "all":
        return [answer for answers in problems for answer in answers]
    rows: list[Row] = []
    balance = _Balance(problems) if rule == "balanced" else None
    for answers in problems:
        ordered = sorted(answers, key=lambda answer: (answer.length or 0, answer.id))
        row: Row | None
        if rule == "pairs":
            row = _pair(ordered[0], ordered[-1], ratio)
        elif balance:
            row = balance.take(ordered)
        else:
            row = ordered[0] if rule == "shortest" else ordered[-1]
        if row is None:
            dropped["no_pair"] += len(answers)
        else:
            rows.append(row)
            if rest := len(answers) - len(row.answers):
                dropped["not_chosen"] += rest
    return rows


def _pair(short: TrainingAnswer, long: TrainingAnswer, ratio: float) -> AnswerPair | None:
    """Two answers as a pair; None where the longer is not long enough."""
    if short is long or (long.length or 0) < ratio * (short.length or 0):
        return None
    if short.question != long.question:
        raise DataError(
            f"{short.id} and {long.id} answer the same problem in different wording. Choose the "
            "wording to train on (--task), or make pairs from one run."
        )
    return AnswerPair(short, long)


class _Balance:
    """Chooses for each problem the answer whose length class is the rarest so far.

    Problems whose answers fall into few length classes are counted first, so that the other
    problems can balance them.
    """

    def __init__(self, problems: Sequence[list[TrainingAnswer]]) -> None:
        self._taken: dict[str, TrainingAnswer] = {}
        counts: Counter[int] = Counter()
        for answers in sorted(problems, key=lambda one: len({self._class(a) for a in one})):
            pick = min(answers, key=lambda a: (counts[self._class(a)], a.length or 0, a.id))
            counts[self._class(pick)] += 1
            self._taken |= dict.fromkeys((answer.id for answer in answers), pick)

    def take(self, answers: Sequence[TrainingAnswer]) -> TrainingAnswer:
        return self._taken[answers[0].id]

    @staticmethod
    def _class(answer: TrainingAnswer) -> int:
        return math.floor(math.log(max(1, answer.length or 1), STEP))


def _refuse_unfinished(run: Run) -> None:
    where = run.folder or run.name
    if not run.results:
        raise DataError(f"{where} has no answers. Sample some: laconic data sample.")
    if not run.complete:
        asked = sum(run.experiment.answers(task) for task in run.experiment.tasks)
        raise DataError(
            f"{where} has {len(run.results):,} of {asked:,} answers. Give the command that began "
            "it again to finish it."
        )


def _pass_rates(runs: Sequence[Run]) -> dict[Problem, float]:
    """The share of right answers to each problem, every answer counting the same."""
    right: Mapping[Problem, list[bool]] = defaultdict(list)
    for run in runs:
        for result in run.results:
            right[result.task, result.id].append(result.correct)
    return {key: sum(verdicts) / len(verdicts) for key, verdicts in right.items()}


def _by_problem(runs: Sequence[Run]) -> dict[Problem, list[tuple[str, Result]]]:
    """The results of each problem, in order of runs and repeats, with names no two share."""
    found: dict[Problem, list[tuple[str, Result]]] = defaultdict(list)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{name}({place})" for place, name in enumerate(names, start=1)]
    for name, run in zip(names, runs, strict=True):
        prefix = f"{name}:" if len(runs) > 1 else ""
        for result in sorted(run.results, key=lambda result: result.key):
            key = result.task, result.id
            found[key].append((f"{prefix}{_name(key)}#{result.repeat}", result))
    return found


def _name(key: Problem) -> str:
    task, name = key
    return name if name.startswith(f"{task}/") else f"{task}/{name}"


def _answer(name: str, result: Result) -> TrainingAnswer:
    return TrainingAnswer(
        id=name,
        question=result.problem,
        gold=result.gold,
        response=result.prefill + result.text,
        level=result.level,
        length=result.length,
        thought=_thought(result),
        truncated=result.truncated,
        kind=result.kind,
    )


def _thought(result: Result) -> Thought:
    if result.thinks:
        return "closed"
    return "open" if result.thinking_length else "none"


def _reword(
    problems: dict[Problem, list[TrainingAnswer]], questions: Task, dropped: Counter[str]
) -> None:
    """Put every problem in the words of a task; those it does not have are counted and left out."""
    words = {_name((sample.task, sample.id)): sample.problem for sample in questions.samples}
    for key in list(problems):
        question = words.get(_name(key))
        if question is None:
            dropped["not_in_task"] += len(problems.pop(key))
        else:
            problems[key] = [replace(answer, question=question) for answer in problems[key]]


def _drawn(seed: int, key: Problem) -> bytes:
    """Where a problem stands in the order of a seed."""
    return hashlib.blake2b(f"{seed}\0{key[0]}\0{key[1]}".encode(), digest_size=8).digest()


def _source(run: Run) -> dict[str, Any]:
    """What a pool remembers of a run."""
    kept = results_file(run.folder) if run.folder else None
    return {
        "folder": str(run.folder) if run.folder else "",
        "digest": file_digest(kept) if kept else "",
        "model": run.experiment.model,
        "model_digest": run.experiment.model_digest,
        "tasks": [task.source for task in run.experiment.tasks],
        "sampling": asdict(run.experiment.sampling),
        "template": run.experiment.template,
        "grader": run.experiment.grader,
        "answers": len(run.results),
    }


def parse_levels(text: str) -> tuple[int, ...]:
    """Levels as users write them: ``5``, ``1-3`` or ``1,2,4-5``.

    Raises:
        DataError: For anything else.
    """

    def numbers(part: str) -> Iterable[int]:
        found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if found is None:
            raise DataError(f"levels {text}: write them as 5, 1-3 or 1,2,4-5.")
        return range(int(found[1]), int(found[2] or found[1]) + 1)

    return tuple(sorted({number for part in text.split(",") for number in numbers(part)}))


def difficulties(runs: Sequence[Run], wanted: Filter) -> Iterator[tuple[Ease, int]]:
    """How many problems of some runs are easy, medium and hard."""
    counts = Counter(wanted.named(rate) for rate in _pass_rates(runs).values())
    for name in get_args(Ease):
        yield name, counts[name]
