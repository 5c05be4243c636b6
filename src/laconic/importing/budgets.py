"""The budget of a log and what it cut: what the log says, else what there is evidence for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.importing.contract import CLOSE, OPEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.importing.contract import Record

#: A text that ran to its budget counts a few tokens less when it is tokenized again: so many, and
#: no more than this part of the budget.
SLACK: Final = 8
SLACK_PART: Final = 8
#: So many completions that end at the longest length in the middle of things were cut there.
PILE: Final = 3
#: A text of no more characters is a bare answer, unless something is missing at its end.
SHORT: Final = 24
_MISSING = re.compile(r"(?:[-=+/,(\[{^_\\<&]|\\[A-Za-z]+)\s*\Z")
_ENDED = re.compile(r"(?:[.!?:;。！？]|[)\]}$*`>|\"'”’»])\s*\Z")  # noqa: RUF001  # other scripts' stops
_CONCLUDED = re.compile(
    r"(?:answer|result|答案|정답|####)[^\n]{0,20}?(?:\bis|=|:|是|为|####)?[^\n]{1,60}\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LogBudget:
    """The budget of a log.

    Attributes:
        cap: Tokens; None where the log does not tell and there is no evidence for one.
        cut: Whether each completion was cut, ``[completion]``.
        inferred: What of that was inferred, and from what, in words.
        missing: What nobody can tell, in words.
    """

    cap: int | None
    cut: list[bool]
    inferred: list[str]
    missing: list[str]


def find_budget(
    records: Sequence[Record],
    lengths: Sequence[int],
    *,
    exact: bool,
    given: int | None,
    answers_only: bool = False,
) -> LogBudget:
    """The budget of a log: what the user or the log says, else what its texts and lengths prove.

    Args:
        records: The completions.
        lengths: Their tokens.
        exact: Whether those are the engine's own counts.
        given: The budget that the user names; the log may say the same.
        answers_only: Whether the lengths leave out the thoughts: then they prove nothing.

    Raises:
        RunError: For completions of several budgets, and for one longer than `given`.
    """
    inferred: list[str] = []
    cap = _stated(records, max(lengths), exact, given, inferred)
    if cap is None and not answers_only:
        cap = _proven(records, lengths, exact, inferred)
    unsaid = sum(record.cut is None for record in records)
    slack = 0 if cap is None else _slack(cap, exact)
    guesses = [
        cap is not None
        and not answers_only
        and (length >= cap or (length >= cap - slack and not _concludes(record.response)))
        for record, length in zip(records, lengths, strict=True)
    ]
    cut = [g if r.cut is None else r.cut for r, g in zip(records, guesses, strict=True)]
    missing = []
    if cap is not None and unsaid and not answers_only:
        inferred.append(f"truncation is inferred: completions within {slack} tokens of the budget")
    if cap is None:
        said = f"{sum(cut):,} completions were cut" if any(cut) else "nothing is known to be cut"
        missing.append(
            f"no budget is known: {said}, and the longest completion has {max(lengths):,} tokens; "
            "name it: --cap TOKENS"
        )
        if unsaid:
            missing.append(f"{unsaid:,} completions do not say why they ended")
    return LogBudget(cap, cut, inferred, missing)


def _slack(cap: int, exact: bool) -> int:
    return 0 if exact else min(SLACK, cap // SLACK_PART)


def _stated(
    records: Sequence[Record], longest: int, exact: bool, given: int | None, inferred: list[str]
) -> int | None:
    """The budget that the user or the log names, unless a completion passes it."""
    caps = {record.cap for record in records if record.cap is not None}
    if len(caps) > 1:
        raise RunError(
            f"The log holds completions of different budgets ({', '.join(map(str, sorted(caps)))} "
            "tokens). Split it: runs of different budgets are not comparable."
        )
    stated = caps.pop() if caps else None
    if given is not None:
        if longest > given + _slack(given, exact):
            raise RunError(f"--cap {given}: a completion has {longest:,} tokens.")
        if stated not in {None, given}:
            inferred.append(
                f"the log's budget of {stated:,} tokens is set aside for --cap {given:,}"
            )
        return given
    if stated is not None and longest > stated + _slack(stated, exact):
        inferred.append(
            f"the stated budget of {stated:,} tokens is not believed: a completion has {longest:,}"
        )
        return None
    return stated or None


def _proven(
    records: Sequence[Record], lengths: Sequence[int], exact: bool, inferred: list[str]
) -> int | None:
    """The budget that cut completions show: those said to be cut, or that end in the middle."""
    cut = [length for record, length in zip(records, lengths, strict=True) if record.cut]
    if cut:
        cap = max(cut)
        if cap < max(lengths) or min(cut) < cap - _slack(cap, exact):
            return None
        inferred.append(
            f"the budget is inferred: all {len(cut):,} completions that the log calls cut have "
            f"{cap:,} tokens"
        )
        return cap
    cap = max(lengths)
    pile = [
        record.response
        for record, length in zip(records, lengths, strict=True)
        if record.cut is None and length >= cap - _slack(cap, exact)
    ]
    broken = sum(not _ends(text) for text in pile)
    if broken < PILE or broken <= len(pile) / 2:
        return None
    inferred.append(
        f"the budget is inferred: {len(pile):,} completions end at {cap:,} tokens, the longest "
        f"length, {broken:,} of them in the middle of a sentence or a thought"
    )
    return cap


def _ends(text: str) -> bool:
    """Whether a text ends as finished ones do: with its thought closed, at a sentence's end."""
    if text.rfind(OPEN) > text.rfind(CLOSE):
        return False
    said = text.rpartition(CLOSE)[2].strip()
    last = said.rpartition("\n")[2]
    if _MISSING.search(said):
        return False
    return len(said) <= SHORT or bool(_ENDED.search(said) or _CONCLUDED.search(last))


def _concludes(text: str) -> bool:
    """Whether a text that may have been cut has come to its answer all the same."""
    return _ends(text) and (CLOSE in text or r"\boxed{" in text or len(text) <= SHORT)
