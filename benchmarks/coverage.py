"""How often the intervals hold the truth, and how often "not worse" is said wrongly.

    python benchmarks/coverage.py > benchmarks/coverage.md

Each line simulates one way in which answers come about, with seeds of its own, and judges the same
samples by the intervals of `laconic.stats` and by the usual ones: for differences of accuracy the
adjusted Wald interval of Bonett and Price whose imagined pairs weigh 1 / repeats, for accuracies
Wilson's at the effective number of responses, for lengths Student's t and the delta method.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from laconic.stats.bounded import Estimate, Z, evidence, mean_within, ratio_within
from laconic.stats.notworse import NotWorse, corrected, verdict

Numbers = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Numbers]
MARGIN = 0.02
CAP = 8192.0


def main() -> None:
    """Simulate and print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=600)
    rounds = parser.parse_args().rounds
    error = 100 * math.sqrt(0.025 * 0.975 / rounds)
    print(f"# Coverage\n\n`python benchmarks/coverage.py --rounds {rounds}`: {rounds:,} rounds,")
    print(f"so that 2.5 % has a standard error of {error:.1f} and 95 % one of {error * 1.4:.1f}.")
    for title, head, lines in (
        ("Not worse by 2 points", NOT_WORSE, not_worse(rounds)),
        ("The best of many", BEST, best_of_many(rounds // 4)),
        ("Accuracy", ACCURACY, accuracies(rounds)),
        ("Mean length", LENGTH, lengths(rounds)),
        ("Change of length", CHANGE, changes(rounds)),
    ):
        print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for line in lines:
            print(f"| {' | '.join(line)} |", flush=True)


# -- differences of accuracy -------------------------------------------------------------------

NOT_WORSE = (
    "how accuracy is lost",
    "problems",
    "answers to each",
    "yes at a loss of 2 points, %: usual",
    "ours",
    "holds the truth, %: usual",
    "ours",
    "yes without a loss, %: ours",
)


def lost(chance: np.random.Generator, problems: int, repeats: int, loss: float) -> Numbers:
    """Few problems are lost entirely, all others answered as before."""
    return -(chance.random(problems) < loss).astype(np.float64)


def lost_in_noise(chance: np.random.Generator, problems: int, repeats: int, loss: float) -> Numbers:
    """Few problems are lost entirely, and every answer is drawn; accuracy is 80 %."""
    ease = chance.beta(1.6, 0.4, problems)
    theirs = chance.binomial(repeats, ease)
    ours = chance.binomial(repeats, np.where(chance.random(problems) < loss / 0.8, 0, ease))
    return (ours - theirs) / repeats


def lost_near_the_top(
    chance: np.random.Generator, problems: int, repeats: int, loss: float
) -> Numbers:
    """The same at an accuracy of 97 %."""
    ease = chance.beta(1.94, 0.06, problems)
    theirs = chance.binomial(repeats, ease)
    ours = chance.binomial(repeats, np.where(chance.random(problems) < loss / 0.97, 0, ease))
    return (ours - theirs) / repeats


def everywhere(chance: np.random.Generator, problems: int, repeats: int, loss: float) -> Numbers:
    """Every problem is lost a little, and every answer is drawn; accuracy is 80 %."""
    ease = chance.beta(3.2, 0.8, problems)
    theirs = chance.binomial(repeats, ease)
    return (chance.binomial(repeats, ease * (1 - loss / 0.8)) - theirs) / repeats


def won_and_lost(chance: np.random.Generator, problems: int, repeats: int, loss: float) -> Numbers:
    """Problems are won (3 %) and lost entirely."""
    drawn = chance.random(problems)
    return np.where(drawn < 0.03, 1.0, np.where(drawn < 0.06 + loss, -1.0, 0.0))


def half_lost(chance: np.random.Generator, problems: int, repeats: int, loss: float) -> Numbers:
    """Few problems are lost half of the time."""
    return -0.5 * (chance.random(problems) < 2 * loss).astype(np.float64)


def not_worse(rounds: int) -> Iterator[tuple[str, ...]]:
    """The test at its margin, the interval, and the power."""
    ways = (lost, lost_in_noise, lost_near_the_top, everywhere, won_and_lost, half_lost)
    for way in ways:
        drawn = way in {lost_in_noise, lost_near_the_top, everywhere}
        for problems in (20, 30, 60, 150, 300, 1000):
            for repeats in (1, 8, 64) if drawn else (64,):
                chance = np.random.default_rng([1, ways.index(way), problems, repeats])
                counts = np.zeros(5)
                for _ in range(rounds):
                    gains = way(chance, problems, repeats, MARGIN)
                    usual, ours = bonett_price(gains, repeats), mean_within(gains, -1.0, 1.0)
                    equal = mean_within(way(chance, problems, repeats, 0.0), -1.0, 1.0)
                    counts += (
                        usual.low > -MARGIN,
                        ours.low > -MARGIN,
                        holds(usual, -MARGIN),
                        holds(ours, -MARGIN),
                        equal.low > -MARGIN,
                    )
                shown = (f"{100 * count / rounds:.1f}" for count in counts)
                yield (told(way), f"{problems:,}", str(repeats), *shown)


def bonett_price(gains: Numbers, repeats: int) -> Estimate:
    """The adjusted Wald interval whose imagined pairs weigh 1 / repeats of a problem."""
    added = 2 / repeats
    n = len(gains) + added
    centre = float(gains.sum()) / n
    half = Z * math.sqrt(((float(np.sum(gains**2)) + added) / n - centre**2) / n)
    return Estimate(float(gains.mean()), centre - half, centre + half)


BEST = (
    "problems",
    "merges",
    "some yes where all are 2 points worse, %: each alone",
    "Holm",
    "yes for the one that is as good, %: alone",
    "Holm",
)


def best_of_many(rounds: int) -> Iterator[tuple[str, ...]]:
    """Merges of one family, tested against one System 2."""
    for problems in (300, 1000, 3000):
        for merges in (8, 30):
            chance = np.random.default_rng([2, problems, merges])
            counts = np.zeros(4)
            for _ in range(rounds):
                worse = family(chance, problems, np.full(merges, MARGIN))
                mixed = family(chance, problems, np.array([0.0, *[2 * MARGIN] * (merges - 1)]))
                held = corrected(mixed)[0].verdict
                counts += (
                    any(one.verdict == "yes" for one in worse),
                    any(one.verdict == "yes" for one in corrected(worse)),
                    mixed[0].verdict == "yes",
                    held == "yes",
                )
            yield (
                f"{problems:,}",
                str(merges),
                *(f"{100 * count / rounds:.1f}" for count in counts),
            )


def family(chance: np.random.Generator, problems: int, losses: Numbers) -> list[NotWorse]:
    """Verdicts on merges that share the baseline's answers and some of their gains (2 %)."""
    theirs = chance.random(problems) < 0.9
    found = []
    for loss in losses:
        flipped = chance.random(problems)
        ours = np.where(theirs, flipped > (loss + 0.02) / 0.9, flipped < 0.2).astype(np.float64)
        gains = ours - theirs
        difference = mean_within(gains, -1.0, 1.0)
        found.append(NotWorse(MARGIN, verdict(difference, MARGIN), evidence(gains, -MARGIN, -1.0)))
    return found


# -- accuracies --------------------------------------------------------------------------------

ACCURACY = (
    "accuracy",
    "problems",
    "answers to each",
    "problems differ",
    "holds the truth, %: usual",
    "ours",
)


def accuracies(rounds: int) -> Iterator[tuple[str, ...]]:
    """Shares of right answers, to problems that differ in difficulty."""
    for share in (0.05, 0.8, 0.97, 0.99):
        for problems in (30, 200):
            for repeats in (1, 8, 64):
                for word, spread in (("all or nothing", 0.2), ("much", 2.0), ("little", 20.0)):
                    if repeats == 1 and spread != 2.0:
                        continue
                    chance = np.random.default_rng([3, int(100 * share), problems, repeats])
                    counts = np.zeros(2)
                    for _ in range(rounds):
                        ease = chance.beta(share * spread, (1 - share) * spread, problems)
                        values = chance.binomial(repeats, ease) / repeats
                        counts += (
                            holds(effective_wilson(values, problems * repeats), share),
                            holds(mean_within(values, 0.0, 1.0), share),
                        )
                    yield (
                        f"{share:g}",
                        f"{problems:,}",
                        str(repeats),
                        word if repeats > 1 else "",
                        *(f"{100 * count / rounds:.1f}" for count in counts),
                    )


def effective_wilson(values: Numbers, responses: int) -> Estimate:
    """Wilson's interval at the effective number of responses (Korn and Graubard 1998)."""
    n, p, size = len(values), float(np.mean(values)), float(len(values))
    spread = float(np.var(values, ddof=1)) if responses > n else 0.0
    if spread > 1e-12:
        size = min(n * p * (1 - p) / spread * (Z / student(n - 1)) ** 2, float(responses))
    centre = (p + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(p * (1 - p) / size + Z**2 / (4 * size**2))
    return Estimate(p, centre - half, centre + half)


# -- lengths -----------------------------------------------------------------------------------


def skewed(spread: float) -> Draw:
    """Lognormal lengths with a median of 300 tokens, cut at the budget."""

    def draw(chance: np.random.Generator, problems: int, repeats: int) -> Numbers:
        drawn = 300 * np.exp(chance.normal(0, spread, (problems, repeats)))
        means: Numbers = np.minimum(drawn, CAP).mean(1)
        return means

    return draw


def looping(share: float) -> Draw:
    """The same with a spread of 0.4, where a share of the problems runs into the budget."""

    def draw(chance: np.random.Generator, problems: int, repeats: int) -> Numbers:
        usual = skewed(0.4)(chance, problems, repeats)
        return np.where(chance.random(problems) < share, CAP, usual)

    return draw


DRAWS = (
    ("lognormal, 0.5", skewed(0.5)),
    ("lognormal, 0.8", skewed(0.8)),
    ("lognormal, 1.2", skewed(1.2)),
    ("0.2 % at the budget", looping(0.002)),
    ("1 % at the budget", looping(0.01)),
    ("3 % at the budget", looping(0.03)),
    ("20 % at the budget", looping(0.2)),
)
LENGTH = (
    "lengths",
    "problems",
    "answers to each",
    "holds the truth, %: usual",
    "ours",
    "median upper end over the mean: usual",
    "ours",
)


def lengths(rounds: int) -> Iterator[tuple[str, ...]]:
    """Mean lengths, with a budget of 8,192 tokens."""
    for place, (word, draw) in enumerate(DRAWS):
        truth = float(np.mean(draw(np.random.default_rng([4, place]), 1_000_000, 1)))
        for problems in (20, 30, 100, 500, 1000):
            for repeats in (1, 8) if problems == 30 else (1,):
                chance = np.random.default_rng([4, place, problems, repeats])
                counts, ends = np.zeros(2), []
                for _ in range(rounds):
                    values = draw(chance, problems, repeats)
                    usual, ours = student_interval(values), mean_within(values, 0.0, CAP)
                    counts += holds(usual, truth), holds(ours, truth)
                    ends.append((usual.high / usual.value, ours.high / ours.value))
                over = np.median(np.array(ends), axis=0)
                yield (
                    word,
                    f"{problems:,}",
                    str(repeats),
                    *(f"{100 * count / rounds:.1f}" for count in counts),
                    *(f"{end:.2f}" for end in over),
                )


CHANGE = (
    "lengths of both",
    "problems",
    "holds the truth, %: usual",
    "ours",
    "median interval of a change of -50 %: usual",
    "ours",
)


def changes(rounds: int) -> Iterator[tuple[str, ...]]:
    """Changes of length: both runs drawn alike, the one half as long up to its budget."""
    for place, (word, draw) in enumerate(DRAWS):
        for problems in (30, 100, 500, 1000):
            chance = np.random.default_rng([5, place, problems])
            counts, ends = np.zeros(2), []
            for _ in range(rounds):
                theirs = draw(chance, problems, 1)
                ours = draw(chance, problems, 1) / 2
                usual, held = delta(ours, theirs), ratio_within(ours, theirs, CAP, CAP)
                counts += holds(usual, 0.5), holds(held, 0.5)
                ends.append((usual.low, usual.high, held.low, held.high))
            low, high, least, most = 100 * np.median(np.array(ends), axis=0) - 100
            yield (
                word,
                f"{problems:,}",
                *(f"{100 * count / rounds:.1f}" for count in counts),
                f"{low:.0f} to {high:+.0f}",
                f"{least:.0f} to {most:+.0f}",
            )


def student_interval(values: Numbers) -> Estimate:
    """Student's t interval of a mean."""
    n, value = len(values), float(np.mean(values))
    half = student(n - 1) * math.sqrt(float(np.var(values, ddof=1)) / n)
    return Estimate(value, value - half, value + half)


def delta(ours: Numbers, theirs: Numbers) -> Estimate:
    """The delta-method interval of a ratio of means (Cochran 1977)."""
    value = float(ours.mean() / theirs.mean())
    around = student_interval((ours - value * theirs) / float(theirs.mean()))
    return Estimate(value, value + around.low, value + around.high)


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t, by the series of Abramowitz and Stegun (26.7.5)."""
    terms = (Z, (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96)
    return math.fsum(term / freedom**order for order, term in enumerate(terms))


def holds(found: Estimate, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return found.low - 1e-12 <= truth <= found.high + 1e-12


def told(way: Callable[..., Numbers]) -> str:
    """What a simulation does, by its first line."""
    return (way.__doc__ or "").splitlines()[0].rstrip(".")


if __name__ == "__main__":
    main()
