r"""Algebra: whether two answers are equal mathematics, by Math-Verify, within a worker process.

Math-Verify parses and takes sets, intervals, relations and lists apart; the comparison of two
numbers or expressions is ours, because its own is absolute: it calls any two that are smaller than
about 1e-16 equal. Here:

- two exact numbers are equal where they are the same, to 60 significant digits if irrational;
- a decimal equals a number that it rounds to six places, and no closer than six digits apart;
- expressions with variables are equal where they agree at every point tried, to 30 digits. Roots
  count where their radicands are not negative: ``\sqrt{ab}`` is ``\sqrt{a}\sqrt{b}``, while
  ``\sqrt{x^2}`` is not ``x``. What cannot be evaluated is simplified, as Math-Verify does.

A formula is parsed whole or not at all: Math-Verify would go on with the first number or fraction
in one that it cannot parse. Nothing here has a time limit: only for the worker.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What is said of an equal answer that could not be read as mathematics.
AS_WORDS: Final = "compared as words"
#: Modules that catch every exception, those of a full memory too, and call the answer wrong.
SWALLOWING: Final = (
    *("math_verify.grader", "math_verify.parser"),
    *("latex2sympy2_extended.latex2sympy2", "latex2sympy2_extended.math_normalization"),
)
#: Values that variables take, of both signs and none special.
POINTS: Final = ("37/23", "-41/53", "89/31", "61/97", "-173/71")
#: Significant digits that numbers and points are computed to, and the relative error allowed.
DIGITS: Final = 60
ERROR: Final = "1e-30"
#: A decimal may differ by half its sixth place, and by a millionth of the number.
PLACES: Final = "5e-7"
SHARE: Final = "1e-6"


def verify(gold: str, text: str, *, boxed: bool) -> tuple[str, str | None, str]:
    """Compare by Math-Verify.

    Args:
        gold: The right answer, LaTeX without its dollar signs.
        text: An extracted answer, or a text to find one in.
        boxed: Whether it is the former.

    Returns:
        What `Verdict` holds: the state, the answer found in a searched text, the reason.
    """
    from math_verify import LatexExtractionConfig, grader, parse

    vars(grader)["sympy_numeric_eq"] = numerically_equal
    vars(grader)["sympy_solve_and_compare"] = same_solutions
    whole = [LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0)]
    found = (
        parse(rf"\boxed{{{text}}}", whole, parsing_timeout=None)
        if boxed
        else parse(text, parsing_timeout=None)
    )
    if not found:
        return ("unequal" if boxed else "none", None, "")
    right = parse(rf"\boxed{{{gold.strip().strip('$')}}}", whole, parsing_timeout=None)
    same = grader.verify(
        right, found, timeout_seconds=None, raise_on_error=False, allow_set_relation_comp=True
    )
    words = AS_WORDS if same and all(isinstance(part, str) for part in found) else ""
    return ("equal" if same else "unequal", None if boxed else str(found[-1]), words)


def let_memory_errors_out() -> None:
    """Narrow what Math-Verify's ``except Exception`` catches to all but a full memory.

    It takes any failure of a comparison as "unequal"; a comparison that ran out of memory is
    undecided. Its modules look the name up when they fail, so they find this one. Asked before
    each comparison, because libraries define exceptions as they load.
    """
    caught = tuple(kind for kind in Exception.__subclasses__() if kind is not MemoryError)
    for name in SWALLOWING:
        if module := sys.modules.get(name):
            vars(module)["Exception"] = caught


def numerically_equal(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
    """Whether two sympy numbers, expressions or matrices are equal; stands in for Math-Verify's.

    Args:
        a: The gold.
        b: The answer.
        float_rounding: Not used; decimals are compared as the module says.
        numeric_precision: Not used; neither is this.
    """
    from sympy import MatrixBase
    from sympy.matrices.expressions.matexpr import MatrixExpr

    if isinstance(a, MatrixBase | MatrixExpr) or isinstance(b, MatrixBase | MatrixExpr):
        left, right = _done(a), _done(b)
        return (
            isinstance(left, MatrixBase)
            and isinstance(right, MatrixBase)
            and left.shape == right.shape
            and all(
                numerically_equal(x, y, float_rounding, numeric_precision)
                for x, y in zip(left.flat(), right.flat(), strict=True)
            )
        )
    left, right = _done(_without_percent(a)), _done(_without_percent(b))
    try:
        if left == right:
            return True
        if left.free_symbols or right.free_symbols:
            return _agree_at_points(_exact(left), _exact(right))
        return _same_number(left, right)
    except (TypeError, ValueError, AttributeError, ArithmeticError, NotImplementedError):
        return False  # it cannot be evaluated; Math-Verify goes on to simplify the difference


def same_solutions(gold: Any, answer: Any, float_rounding: int, numeric_precision: int) -> bool:
    """Whether two relations have the same solutions; stands in for Math-Verify's.

    Its own calls two relations without a variable, or without a solution, equal: ``2 + 3 = 5`` and
    ``2 + 3 = 6``.

    Args:
        gold: A relation.
        answer: Another.
        float_rounding: Handed on.
        numeric_precision: Handed on.
    """
    from math_verify.grader import sort_key, sympy_expr_eq
    from sympy import Eq, ordered, solve

    if not gold.free_symbols or gold.free_symbols != answer.free_symbols:
        return False
    solved = [list(ordered(solve(side, side.free_symbols))) for side in (gold, answer)]
    if not (isinstance(gold, Eq) and isinstance(answer, Eq)):
        return bool(solved[0] == solved[1] != [])
    left, right = (list(ordered(s, keys=sort_key, default=False)) for s in solved)
    return (
        bool(left)
        and len(left) == len(right)
        and all(
            g.keys() == a.keys()
            and all(sympy_expr_eq(g[k], a[k], float_rounding, numeric_precision) for k in g)
            for g, a in zip(left, right, strict=True)
        )
    )


def _same_number(a: Any, b: Any) -> bool:
    """Whether two expressions without variables have one value."""
    from sympy import Float, Rational

    if isinstance(a, Rational) and isinstance(b, Rational):
        return False  # they would be equal as they stand
    rounded = a.has(Float) or b.has(Float)
    left, right = _exact(a).evalf(DIGITS), _exact(b).evalf(DIGITS)
    if not (left.is_number and right.is_number and left.is_finite and right.is_finite):
        return False
    apart, size = abs(left - right), max(abs(left), abs(right))
    if rounded:
        return bool(apart <= Float(PLACES) and apart <= Float(SHARE) * size * (1 + Float("1e-9")))
    return bool(apart <= Float("1e-50", DIGITS) * size)


def _agree_at_points(a: Any, b: Any) -> bool:
    """Whether two expressions have the same value at every point where both have one."""
    from sympy import Float

    compared = 0
    for values in _points(a, b):
        if _hides_a_root(a, values) or _hides_a_root(b, values):
            continue
        left, right = a.subs(values).evalf(DIGITS), b.subs(values).evalf(DIGITS)
        if not (left.is_number and right.is_number):
            return False
        if not (left.is_finite and right.is_finite):
            continue
        if abs(left - right) > Float(ERROR, DIGITS) * max(abs(left), abs(right)):
            return False
        compared += 1
    return compared > 1


def _points(a: Any, b: Any) -> Iterator[dict[Any, Any]]:
    """Values for the variables of two expressions, of every mixture of signs at first."""
    from sympy import Rational

    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    for shift in range(len(POINTS)):
        yield {
            symbol: Rational(POINTS[(shift + i) % len(POINTS)]) + Rational(i // len(POINTS), 7)
            for i, symbol in enumerate(symbols)
        }
    for shift in range(2):  # where every variable is positive
        yield {s: Rational(19 + 12 * shift + 5 * i, 13 + 3 * i) for i, s in enumerate(symbols)}


def _hides_a_root(expression: Any, values: dict[Any, Any]) -> bool:
    """Whether a root in an expression has a negative radicand at a point."""
    from sympy import Pow

    for power in expression.atoms(Pow):
        if power.exp.is_integer or not power.base.free_symbols:
            continue
        base = power.base.subs(values).evalf(15)
        if not (base.is_real and base.is_nonnegative):
            return True
    return False


def _without_percent(expression: Any) -> Any:
    """A number without its percent sign, which golds write or leave out."""
    from math_verify.grader import get_pct_val

    return get_pct_val(expression, expression)


def _done(expression: Any) -> Any:
    from math_verify.grader import safe_sympy_doit

    return safe_sympy_doit(expression)


def _exact(expression: Any) -> Any:
    """An expression whose decimals are fractions: 0.1 is one tenth."""
    from sympy import Float, Rational

    return expression.xreplace({f: Rational(str(f)) for f in expression.atoms(Float)})
