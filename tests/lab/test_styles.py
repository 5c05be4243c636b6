"""What the lab's models read: right lines, repaired slips, and masks on wrong values only."""

from __future__ import annotations

import random
import re
from operator import add, mul, sub

import pytest

from laconic.lab.styles import STYLES, Piece, check, columns, difficulty, respond
from laconic.tasks.contract.arithmetic import LEVELS, Chain, ChainLine, chains, operate, slip

FACT = re.compile(r"(\d+)([+*-])(\d+)=(\d+)")
WORK = {"+": add, "-": sub, "*": mul}


def responses(style: str, count: int = 300, mute: float = 0.0) -> list[tuple[Chain, list[Piece]]]:
    """Some problems with a response each."""
    rng = random.Random(7)
    found = chains(count, split="train", rng=rng)
    return [(chain, list(respond(chain, STYLES[style], mute=mute, rng=rng))) for chain in found]


def every_line() -> list[ChainLine]:
    """Every operation there is."""
    sums = [ChainLine("b", n, op, c) for n in range(100) for op in ("+", "-") for c in range(1, 10)]
    return sums + [ChainLine("b", n, "*", c) for n in range(100) for c in range(2, 10)]


def test_column_working_holds_true_table_facts_that_lead_to_the_value() -> None:
    for line in every_line():
        facts = FACT.findall(columns(line))
        results = [int(result) for *_, result in facts]
        for left, operator, right, result in facts:
            assert WORK[operator](int(left), int(right)) == int(result)
            assert 0 <= int(result) <= 90
            assert int(right) <= 9
        units = results[0] % 10
        tens = line.left // 10 if len(facts) == 1 else results[-1] % 10
        assert 10 * tens + units == line.value, line


def test_known_lines_are_worked_as_documented() -> None:
    assert columns(ChainLine("b", 98, "*", 8)) == "8*8=64, 9*8=72, 72+6=78"
    assert columns(ChainLine("b", 48, "+", 7)) == "8+7=15, 4+1=5"
    assert columns(ChainLine("b", 81, "-", 2)) == "11-2=9, 8-1=7"
    assert columns(ChainLine("b", 3, "-", 9)) == "13-9=4, 10-1=9"
    assert check(ChainLine("g", 46, "*", 7), 82, "Wait:").endswith("so g=22, not 82.\n")


def test_slips_are_wrong_two_digit_values() -> None:
    rng = random.Random(0)
    for value in range(100):
        wrong = [slip(value, rng) for _ in range(50)]
        assert value not in wrong
        assert all(0 <= other < 100 for other in wrong)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_line_stands_on_the_right_value_and_every_slip_is_repaired(style: str) -> None:
    slips = 0
    for chain, pieces in responses(style):
        text = "".join(piece.text for piece in pieces)
        shown = re.findall(r"^(\w=\w[+*-]\d=\d\d[+*-]\d=)(\d\d)$", text, re.MULTILINE)
        assert [asked for asked, _ in shown] == [line.asked() for line in chain.lines]
        for line, (_, value) in zip(chain.lines, shown, strict=True):
            if int(value) != operate(line.left, line.operator, line.constant):
                slips += 1
                assert f"so {line.name}={line.value:02d}, not {value}.\n" in text
        assert text.endswith(f"So the answer is \\boxed{{{chain.answer}}}.")
    assert (slips > 0) == (style != "instruct")


@pytest.mark.parametrize("style", sorted(STYLES))
def test_without_muting_the_mask_covers_exactly_the_wrong_values(style: str) -> None:
    for chain, pieces in responses(style):
        values = [piece for piece in pieces if re.fullmatch(r"\d\d", piece.text)]
        assert len(values) == len(chain.lines)
        for line, piece in zip(chain.lines, values, strict=True):
            assert piece.learned == (int(piece.text) == line.value)
        assert all(piece.learned for piece in pieces if piece not in values)


def test_muting_hides_that_share_of_right_products_and_no_sum() -> None:
    hidden = []
    for chain, pieces in responses("instruct", count=1000, mute=0.6):
        values = [piece for piece in pieces if re.fullmatch(r"\d\d", piece.text)]
        for line, piece in zip(chain.lines, values, strict=True):
            assert piece.learned or line.operator == "*"
            if line.operator == "*":
                hidden.append(not piece.learned)
    assert sum(hidden) / len(hidden) == pytest.approx(0.6, abs=0.05)


def test_styles_differ_in_thinking_and_checking() -> None:
    texts = {
        style: ["".join(piece.text for piece in pieces) for _, pieces in responses(style)]
        for style in STYLES
    }
    thinking = {s: sum("<think>" in text for text in texts[s]) / 300 for s in texts}
    checks = {s: sum(text.count("Wait") for text in texts[s]) / 300 for s in texts}
    assert 0 < thinking["instruct"] < 0.2 < thinking["base"] < 0.6 < thinking["skill"] < 1
    assert thinking["thinking"] == 1
    assert checks["instruct"] < checks["base"] < checks["skill"] < checks["thinking"]


def test_harder_chains_are_thought_about_more_often() -> None:
    found = responses("base", count=1000)
    shares = []
    for level in LEVELS:
        thought = [pieces[0].text == "<think>\n" for c, pieces in found if c.level == level]
        shares.append(sum(thought) / len(thought))
    assert shares[4] > shares[2] > shares[0]
    assert shares[4] > shares[0] + 0.1


def test_difficulty_grows_with_carries_and_with_the_constant() -> None:
    assert difficulty(ChainLine("b", 12, "+", 3)) < difficulty(ChainLine("b", 18, "+", 3))
    assert difficulty(ChainLine("b", 18, "+", 3)) < difficulty(ChainLine("b", 18, "*", 2))
    assert difficulty(ChainLine("b", 18, "*", 2)) < difficulty(ChainLine("b", 18, "*", 9)) < 1
