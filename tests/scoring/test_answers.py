r"""What a completion says is its answer, and which answers are the gold: tables of neighbours.

Every right pair has a wrong one beside it that differs in what matters.
"""

# ruff: noqa: RUF001  # signs that look like others are what these tables are about

from __future__ import annotations

from collections.abc import Iterator

import pytest

from laconic.runs.run import Finish, Generation, Result, Sample
from laconic.scoring.answers.choices import choice, chosen, word
from laconic.scoring.answers.extract import conclusion, formula
from laconic.scoring.answers.spelling import as_latex
from laconic.scoring.score import Grader, score


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as opened:
        yield opened


def scored(grader: Grader, text: str, gold: str, finish: Finish = "stop") -> Result:
    sample = Sample("t", "1", "?", gold)
    return score(sample, Generation(text, 9, 4, "</think>" in text, finish), grader)


# Where the answer stands


@pytest.mark.parametrize(
    ("text", "finish", "answer", "outcome"),
    [
        (r"<think>\boxed{41}</think> The answer is 42.", "stop", "42", "correct"),
        (r"<think>\boxed{42}</think> The answer is 41.", "stop", "41", "wrong"),
        (r"<think>\boxed{41}</think> So \boxed{42}.", "stop", "42", "correct"),
        (r"<think>\boxed{42}</think> So \boxed{41}.", "stop", "41", "wrong"),
        (r"<think>\boxed{42}</think>", "stop", "42", "correct"),
        (r"<think>\boxed{42}</think> I have finished.", "stop", "42", "correct"),
        (r"<think>\boxed{42}</think> We start with 7 and", "length", "42", "correct"),
        (r"<think>it is 42</think> We start with 7 and", "length", None, "truncated_no_answer"),
        (r"\boxed{41}, or rather 42", "stop", "41", "wrong"),
        (r"$\boxed{42}$. No, it is \boxed{43", "stop", "43", "wrong"),
        (r"$\boxed{43}$. No, it is \boxed{42", "stop", "42", "correct"),
        (r"$\boxed{42}$. No, it is \boxed{43", "length", None, "truncated_no_answer"),
        (r"\boxed{42} \boxed{42} \boxed{4", "length", "42", "correct"),
        (r"\boxed{42}. No, it is \boxed{", "stop", "42", "correct"),
    ],
)
def test_the_final_part_decides_and_then_the_thought(
    grader: Grader, text: str, finish: Finish, answer: str | None, outcome: str
) -> None:
    result = scored(grader, text, "42", finish)
    assert (result.answer, result.outcome) == (answer, outcome)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She makes 18 dollars, selling 9 eggs at 2.", "18"),
        ("She sells 9 eggs: she makes 18 dollars every day by selling at 2 dollars.", "18"),
        ("She sold 9 eggs for 2 dollars each, making 18 dollars.", "18"),
        ("There are 18 eggs left after she eats 3.", "18"),
        ("He needs 5 more because he has 3.", "5"),
        (r"Since she saves $4 each week, it takes her \(\frac{28}{4} = 7\) weeks.", None),
        ("He is 9 years old and his father is 45 years old.", "45"),
        ("It will take 9 minutes for the light to blink 459 times.", "9"),
        (r"Thus, there are 2 values of \( x \) for which it is not defined.", "2"),
        ("The remainder when 1 + 2 is divided by 9 is 1.", "1"),
        ("The total is:\n\n$17,500", "17,500"),
        ("The answer is 5. I hope it is clear.", "5"),
        ("So the final answer would be 15x - 80.", "15x - 80"),
        (r"**Answer:** 137\(\frac{1}{2}\) miles.", r"137 \frac{1}{2}"),
        ("The answer is (3, 4).", "(3, 4)"),
        ("The answer is 5 (not 6).", "5"),
        ("The answer is 5, because 5 > 4.", "5"),
        ("#### 42\n" + "This confirms what was found. " * 40, "42"),
        ("#### 3. Check\nIt is 7.", "7"),
        ("所以答案是42。", "42"),
        ("答案：42", "42"),
        ("정답: 42", "42"),
        ("La respuesta es 42.", "42"),
        ("I do not know.", ""),
    ],
)
def test_a_text_without_a_box_concludes_with_a_formula(text: str, answer: str | None) -> None:
    assert conclusion(text) == (r"\frac{28}{4} = 7" if answer is None else answer)


def test_a_formula_ends_at_the_first_word() -> None:
    assert formula("x = 5 or x = -5 are both right") == "x = 5 or x = -5"
    assert formula("18 dollars per day") == "18"
    assert formula("Navin") == ""


# Choices and words


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B)", "B"),
        ("The answer is B.", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("ANSWER: B", "B"),
        (r"\boxed{B}", "B"),
        (r"$\boxed{\text{B)}}$", "B"),
        (r"\boxed{B. 12}", "B"),
        (r"\boxed{\textbf{(B)}\ 12}", "B"),
        (r"\boxed{\text{Option B}}", "B"),
        (r"\boxed{(b)}", "B"),
        ("So the correct choice is B, since red fits.", "B"),
        ("Option B is correct.", "B"),
        ("I would select option B.", "B"),
        ("B) green", "B"),
        ("B\n\nGreen is the only colour that fits here.", "B"),
        ("정답: B", "B"),
        ("故选B。", "B"),
        ("答案是 B", "B"),
        ("The answer is A. No: the answer is B.", "B"),
        ("A car is green, so it is (B).", None),
        ("Every colour but green is out.", None),
        ("The answer is 12.", None),
    ],
)
def test_a_choice_is_read_with_and_without_a_box(
    grader: Grader, text: str, letter: str | None
) -> None:
    assert scored(grader, text, "B").outcome == ("correct" if letter == "B" else "no_answer")
    other = scored(grader, text, "C")
    assert other.outcome == ("wrong" if letter else "no_answer")


def test_a_small_letter_is_no_choice() -> None:
    assert (chosen("e"), chosen("(e)"), chosen("E"), chosen("E: all of them")) == (
        "",
        "E",
        "E",
        "E",
    )
    assert (chosen("A, C"), chosen("(A), (C)"), chosen("A = 5"), chosen("AB")) == ("", "", "", "")
    assert [choice(gold) for gold in ("B", "(B)", r"\text{(B)}", "B.", "b", "AB", "12")] == [
        *("B", "B", "B", "B", "", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "gold", "outcome"),
    [
        ("Yes, because 3 is odd.", "Yes", "correct"),
        ("No, because 3 is odd.", "Yes", "wrong"),
        ("The answer is no.", "No", "correct"),
        ("The statement is false.", "True", "wrong"),
        ("The statement is true.", "True", "correct"),
        (r"\boxed{true}", "True", "correct"),
        (r"\boxed{\text{False}}", "True", "wrong"),
        ("The answer is Evelyn.", r"\text{Evelyn}", "correct"),
        ("The answer is Carla.", r"\text{Evelyn}", "wrong"),
        ("Evelyn ran faster than Carla.", r"\text{Carla}", "no_answer"),
    ],
)
def test_words_are_read_without_a_box(grader: Grader, text: str, gold: str, outcome: str) -> None:
    assert scored(grader, text, gold).outcome == outcome


def test_short_letters_are_variables_unless_they_are_set_as_text() -> None:
    assert (word("ab"), word(r"\text{ab}"), word("True"), word("parabola")) == (
        *("", "ab", "true", "parabola"),
    )


# Equal and not


@pytest.mark.parametrize(
    ("gold", "equal", "unequal"),
    [
        # exact numbers, and numbers that are very small
        ("2.88e-19", r"2.88 \times 10^{-19} \text{ J}", r"2.10 \times 10^{-18} \text{ J}"),
        (r"\frac{1}{2^{99}}", "2^{-99}", r"\frac{1}{2^{98}}"),
        (r"\frac{1}{52!}", r"\frac{1}{52 \cdot 51!}", r"\frac{1}{51!}"),
        (r"10^{-20} x", r"\frac{x}{10^{20}}", r"2 \cdot 10^{-20} x"),
        (r"\{10^{-20}, 1\}", r"\{1, 10^{-20}\}", r"\{10^{-21}, 1\}"),
        (r"\frac{1}{3}", "0.333333", "0.3333"),
        (r"\sqrt{2}", "1.414214", "1.41421"),
        ("1000001", "1000001.0", "1000000.5"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", r"\frac{1}{\sqrt{3}}"),
        # expressions
        (r"2\sqrt{ab}", r"2\sqrt{a}\sqrt{b}", r"2\sqrt{a}b"),
        (r"\sqrt{\frac{1}{n}}", r"\frac{1}{\sqrt n}", r"\frac{1}{n}"),
        ("|x|", r"\sqrt{x^2}", "x"),
        (r"\ln|x|", r"\ln |x|", r"\ln x^3"),
        # mixed numbers and repeating decimals
        (r"\frac{8}{3}", "2 2/3", "2 1/3"),
        (r"\frac{8}{3}", r"2\frac{2}{3}", r"2\frac{1}{3}"),
        (r"-\frac{5}{2}", r"-2\frac12", r"2\frac12"),
        (r"33\frac13\%", r"33\frac{1}{3}", r"33\frac{2}{3}"),
        (r"\frac{1}{3}", r"0.\overline{3}", "0.3"),
        (r"\frac{1}{6}", r"0.1\overline6", r"0.\overline{16}"),
        # intervals
        (r"(-\infty, 2]", r"x \le 2", "x < 2"),
        (r"(2,\infty)", "x>2", r"x \ge 2"),
        ("0<x<12.5", "(0, 12.5)", "[0, 12.5)"),
        ("(0, 12.5)", "0<x<12.5", r"0 \le x<12.5"),
        ("a<b<c", "c>b>a", "b>c>a"),
        (r"\emptyset", r"\varnothing", r"\{0\}"),
        # signs outside ASCII
        (r"\infty", "∞", "-∞"),
        (r"\sqrt{2}", "√2", "√3"),
        ("x^2", "x²", "x³"),
        ("60", "60°", "61°"),
        ("-5", "–5", "5"),
        ("18.90", "€18.90", "€18.95"),
        ("12", "１２", "１３"),  # full-width digits
        (r"\frac{5}{2}", "2½", "½"),
        # spaced thousands, bases, counters, looks
        ("10080", "10 080", "10 081"),
        ("10080", r"10\,080", r"10\,08"),
        ("4210_5", "(4210)_5", "(4210)_6"),
        ("4210_{5}", r"4210_{\text{five}}", r"4210_{\text{six}}"),
        ("42", "42个", "43个"),
        ("42", r"\color{red}{42}", r"\color{red}{41}"),
        ("42", r"\textcolor{red}{\underline{42}}", r"\underline{24}"),
        (r"\frac{1}{2}", r"\underline{\frac{1}{2}}", r"\underline{\frac{1}{3}}"),
        ("42", r"\text{The answer is 42}", r"\text{The answer is 41}"),
        ("42", r"\text{Maximum: } 42", r"\text{Maximum: } 41"),
        # letters, words, times, lists
        ("E", "E: a longer option", "e"),
        ("True", "true", "false"),
        ("9 am", "9 a.m.", "9 pm"),
        (r"9\text{ pm}", "9:00 PM", "9:30 pm"),
        (r"1, 2, \ldots, n", "1, 2, ..., n", r"1, 2, \ldots, 2n"),
        (r"1, 2, \ldots, n", r"1,2,\dots,n", "1, 2, n"),
        # a formula that cannot be parsed is not its first number
        (r"x=0, \frac{5 \pm \sqrt{61}}{18}", r"x=0,\frac{5\pm\sqrt{61}}{18}", "x=0, y"),
        (r"$\cos (t)=0$ when $t=1$", r"$\cos (t)=0$ when $t=1$", r"$\cos (t)=5$ when $t=1$"),
    ],
)
def test_answers_equal_and_not(grader: Grader, gold: str, equal: str, unequal: str) -> None:
    assert grader.compare(gold, equal).state == "equal"
    assert grader.compare(gold, unequal).state == "unequal"


@pytest.mark.parametrize(
    ("written", "latex"),
    [
        ("2 2/3", r"\frac{8}{3}"),
        ("2 5/3", "2 5/3"),
        ("x^2 1/3", "x^2 1/3"),
        ("c > b > a", "a < b < c"),
        (r"x \geq 2", r"2 \le x"),
        ("(1, 3) > x", "(1, 3) > x"),
        ("1 234 567", "1234567"),
        ("1 23", "1 23"),
        ("3rd", "3"),
    ],
)
def test_answers_are_written_in_one_spelling(written: str, latex: str) -> None:
    assert as_latex(written) == latex
