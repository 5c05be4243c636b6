"""What texts show: counts against the definitions, places and loops by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.scoring.reflection import KEYWORDS, count_substrings, count_words
from laconic.stats import columns, read_texts
from laconic.stats.texts import after_first, keyword_counts, loops, spellings
from tests.support.results import result

pieces = st.sampled_from([*KEYWORDS, "a", " ", "WAIT", "let me", "é", "İ", "\n", "2", "\udc80"])


@settings(max_examples=60)
@given(st.lists(st.lists(pieces, max_size=12).map("".join), max_size=12))
def test_counting_many_texts_at_once_is_counting_each(texts: list[str]) -> None:
    loose, strict = keyword_counts(texts)
    assert [tuple(row) for row in loose] == [count_substrings(text) for text in texts]
    assert [tuple(row) for row in strict] == [count_words(text) for text in texts]


def test_more_texts_than_are_searched_at_a_time_keep_their_own_counts() -> None:
    texts = ["wait " * (i % 3) + "." for i in range(1500)]
    assert keyword_counts(texts)[1][:, 0].tolist() == [i % 3 for i in range(1500)]


def test_reflection_is_reported_by_all_three_denominators() -> None:
    rows = [
        result("a", 600, True, text="Wait. Wait, let me verify: await"),
        result("b", 300, True, text="no doubt"),
        result("c", 100, True, text="recapture"),
    ]
    found = read_texts(columns(rows)).reflection
    paper, script, words = found["paper"], found["script"], found["words"]
    assert (paper.share, script.share, words.share) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert (paper.per_response, paper.per_reflective) == pytest.approx((5 / 3, 5 / 2))
    assert (script.per_response, words.per_reflective) == pytest.approx((4 / 3, 3))
    assert (paper.per_thousand, words.per_thousand) == (5, 3)
    assert (words.keywords["wait"].total, words.keywords["wait"].share) == (2, 1 / 3)
    assert "let me verify" not in script.keywords


def test_texts_without_a_keyword_reflect_nothing() -> None:
    found = read_texts(columns([result("a", 0, True, text="")]))
    assert found.reflection["paper"].per_reflective == found.reflection["paper"].per_thousand == 0
    assert (found.loops, found.after_right, found.placed) == (0, None, 0)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("12 and so 12.", 1 - 2 / 13),
        ("112 121 1.12 .12 then 12", 0),
        ("x = 12.5 but 12", 1 - 6 / 15),  # "12.5" begins with it: counted, an upper bound
        ("nothing", None),
        ("", None),
    ],
)
def test_the_answer_is_found_where_it_is_no_part_of_a_number(
    text: str, share: float | None
) -> None:
    assert after_first(text, ["12"]) == (None if share is None else pytest.approx(share))


def test_the_earliest_spelling_counts_and_empty_ones_do_not() -> None:
    assert after_first("ab 27 27.0 .", [*spellings("27.0"), ""]) == pytest.approx(1 - 5 / 12)
    assert spellings("033") == ("033", "33")
    assert spellings("000") == ("000", "0")
    assert spellings(r"\frac{1}{2}") == (r"\frac{1}{2}",)


def test_only_right_answers_are_looked_for_by_gold_or_by_their_own_words() -> None:
    rows = [
        result("a", 1, True, gold="1/2", answer="0.5", text="is 0.5 so 1/2."),
        result("b", 1, False, gold="7", answer="8", text="8 7 8"),
        result("c", 1, True, gold="seven", answer="VII", text="seven..."),
    ]
    found = read_texts(columns(rows))
    assert found.placed == 2
    assert found.after_right == pytest.approx(((1 - 6 / 14) + (1 - 5 / 8)) / 2)


def test_a_text_loops_where_its_end_says_little() -> None:
    varied = " ".join(str(i * i) for i in range(2000))
    assert loops("so x = 5. " * 400)
    assert loops(varied + "so x = 5. " * 400)
    assert not loops(varied)
    assert not loops("so x = 5. " * 290)  # 2,900 characters
    assert not loops("so x = 5. " * 400 + varied)
    assert loops("\udc80" * 4000)
