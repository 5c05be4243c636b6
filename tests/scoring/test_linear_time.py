"""Everything that touches a model's text takes time in proportion to it, however it is written.

Each text is measured at one, two and four times its length. Time in proportion grows four times,
quadratic time sixteen; noise on a busy machine is allowed for, and what takes less than a few
milliseconds is not told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from laconic.data.answers import TrainingAnswer
from laconic.data.decontaminate import _runs
from laconic.data.encode import split_answer
from laconic.data.lint import find_fault
from laconic.importing.contract import answer as gold_of
from laconic.runs.run import Generation, Sample
from laconic.scoring.answers.choices import read_choice, read_word
from laconic.scoring.answers.extract import boxed_answer, conclusion
from laconic.scoring.answers.references import is_number, is_prose
from laconic.scoring.reflection import count_substrings, count_words
from laconic.scoring.score import Grader, score
from laconic.stats.attempts import _meaning
from laconic.stats.texts import after_first, keyword_counts, loops
from laconic.strategies.tale import estimated
from laconic.tasks.self_correction import _cut

LENGTH = 10_000
TRIES = 4
#: Pieces that make a scan look far ahead, or at every earlier place again.
PIECES = {
    "boxes": r"\boxed{%d},",
    "open boxes": r"\boxed{ {",
    "one long box": r"\boxed{1^ ",
    "spaces": " ",
    "spaces behind a power": "1^ ",
    "new lines": "\n",
    "hashes": "#### ",
    "hashes and lines": "#### 4 a\n",
    "announcements": "the answer is ",
    "empty announcements": "answer\n",
    "brackets": "[[",
    "closed brackets": "[[ 5 ",
    "thoughts": "</think>",
    "digits": "1",
    "dollars": "$1 ",
    "stars": "**",
    "bold": "**a ",
    "verbs": "is a ",
    "connectors": " and ",
    "backslashes": "\\",
    "escaped boxes": "\\\\boxed{ ",
    "waits": "wait",
    "backticks": "``` ",
    "letters": "A. ",
    "words": "yes ",
}


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(deadline=0.3) as opened:
        yield opened


def text_of(piece: str, length: int) -> str:
    if "%d" in piece:
        return "".join(piece % number for number in range(length // len(piece)))
    return piece * (length // len(piece))


def seconds(work: Callable[[str], object], text: str) -> float:
    """The processor time of this process."""
    began = time.process_time()
    work(text)
    return time.process_time() - began


def check_growth(work: Callable[[str], object], piece: str) -> None:
    texts = [text_of(piece, times * LENGTH) for times in (1, 2, 4)]
    took = [seconds(work, text) for text in texts]
    for _ in range(TRIES):
        if took[2] < 0.02 or took[2] < 8 * took[0]:
            break
        took = [min(t, seconds(work, text)) for t, text in zip(took, texts, strict=True)]
    assert took[2] < 0.02 or took[2] < 8 * took[0], took


READERS: dict[str, Callable[[str], object]] = {
    "box": boxed_answer,
    "conclusion": conclusion,
    "choice": read_choice,
    "word": lambda text: read_word(text, "Yes"),
    "budget": lambda text: estimated(text, 100),
    "gold": gold_of,
    "keywords": lambda text: (count_words(text), count_substrings(text), keyword_counts([text])),
    "loops": loops,
    "vote": _meaning,
    "gold's kind": lambda text: (is_number(text), is_prose(text)),
    "places": lambda text: after_first(text, {"11", "1" * 50, "is a"}),
    "decontamination": lambda text: sum(1 for _ in _runs(text, 8)),
    "faults": lambda text: find_fault(TrainingAnswer("1", "?", "5", text)),
    "working": split_answer,
    "lines": lambda text: _cut(text, "5", 0.9),
}


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("reader", READERS)
def test_reading_takes_time_in_proportion(reader: str, name: str) -> None:
    check_growth(READERS[reader], PIECES[name])


@pytest.mark.parametrize("name", PIECES)
def test_scoring_takes_time_in_proportion(grader: Grader, name: str) -> None:
    def work(text: str) -> None:
        for gold, finish in (("5", "stop"), ("5", "length"), ("B", "stop"), ("Yes", "stop")):
            generation = Generation(text, 9, 0, False, "stop" if finish == "stop" else "length")
            score(Sample("t", "1", "?", gold), generation, grader)

    check_growth(work, PIECES[name])


@pytest.mark.parametrize(
    "filling", ["1^ ", " ", "{", "(", "1", r"\text{ ", "a<", r"\color{", "√", ","]
)
def test_a_box_of_any_size_is_refused_at_once(grader: Grader, filling: str) -> None:
    def work(inside: str) -> None:
        closed = inside + "}" * inside.count("{")
        text = rf"\boxed{{{closed} x}}"
        result = score(Sample("t", "1", "?", "5"), Generation(text, 9, 0, False, "stop"), grader)
        assert result.outcome in {"grader_error", "no_answer", "wrong"}

    check_growth(work, filling)
