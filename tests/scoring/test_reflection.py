"""Reflection keywords: counted as the paper, its script and a careful reader would."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from laconic.scoring.reflection import (
    KEYWORDS,
    LISTS,
    count_reflections,
    count_substrings,
    count_words,
)


def test_reflection_keywords_are_whole_words_in_any_case_and_counted_once() -> None:
    text = (
        "Wait, WAIT. waiter await re-examine; Let me check: recap? recaps let me just verify wait2"
    )
    assert count_reflections(text) == 7  # wait, WAIT, re-examine, let me check, recap, ..., wait2
    assert count_reflections("") == 0


def test_keywords_inside_longer_words_count_in_the_papers_way_only() -> None:
    text = "I await a recapture; Wait."
    loose = dict(zip(KEYWORDS, count_substrings(text), strict=True))
    strict = dict(zip(KEYWORDS, count_words(text), strict=True))
    assert (loose["wait"], loose["recap"], strict["wait"], strict["recap"]) == (2, 1, 1, 0)


def test_the_script_leaves_one_keyword_of_the_paper_out() -> None:
    assert set(LISTS["paper"]) - set(LISTS["script"]) == {"let me verify"}
    assert LISTS["words"] == LISTS["paper"]


pieces = st.sampled_from([*KEYWORDS, "a", " ", "Wait", "let me", "just", "-", "\n", "2"])


@given(st.lists(pieces, max_size=30).map("".join))
def test_counts_are_those_of_one_pattern_over_the_text(text: str) -> None:
    pattern = "|".join(sorted(map(re.escape, KEYWORDS), key=len, reverse=True))
    assert sum(count_substrings(text)) == len(re.findall(pattern, text, re.IGNORECASE))
    for keyword, n in zip(KEYWORDS, count_words(text), strict=True):
        alone = rf"(?<![A-Za-z]){re.escape(keyword)}(?![A-Za-z])"
        assert n == len(re.findall(alone, text, re.IGNORECASE))
