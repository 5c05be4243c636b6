"""The page in a real browser: charts, filters, pairs, keys, and answers that mean harm."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.reporting.page.answers import pack_answers
from laconic.reporting.report import RunComparison, compare, to_html
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run
from tests.support.results import result

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
HARMFUL = "<img src=x onerror=window.harmed=1>"
#: Answers that mean harm, by the problem that they are given to.
HOSTILE = {
    "q01": f"{HARMFUL}<script>window.harmed=1</script></script><script>window.harmed=1</script>",
    "q02": "A" * 300_000,
    "q03": "\ud800 broken \udfff, \u202e turned round, \x1b[31mred\x00, Z" + "\u0351" * 500,
    "q04": r"\(\href{javascript:window.harmed=1}{x}\) $\includegraphics{http://example.com/a}$",
    "q05": r"$\def\a{\a\a}\a$ $\rule{90000em}{90000em}$ $\kern{90000em}x$ $"
    + "x^{" * 200
    + "}" * 200,
    "q06": r"\[" * 20_000 + "$$" * 20_001 + r"\boxed{" * 5_000 + r"\begin{a}" * 5_000,
    "q07": r"$\htmlClass{a}{b} \class{x}{y} \html{<script>window.harmed=1</script>}$ &lt;b&gt;",
}
THOUGHT = "Let me see: 6 times 7. Wait, let me check. It is 42.\n</think>\nSo \\(6 \\cdot 7 = 42\\)"
ANSWER = "\n\\[ x = \\frac{84}{2} \\]\nThe answer is $\\boxed{42}$."


def answers(task: str, length: int, wrong: int, repeats: int = 1) -> Iterator[Result]:
    """Forty problems of which every so many are answered wrongly."""
    for i in range(40):
        for repeat in range(repeats):
            right = (i + repeat) % wrong != 0
            yield replace(
                result(f"q{i:02}", length + 7 * (i % 9), right),
                task=task,
                repeat=repeat,
                level=1 + i % 3,
                problem=f"What is 6 times 7? ({i})",
                gold="42",
                text=THOUGHT + (ANSWER if right else " or 41"),
                thinking_length=length // 2,
                thinks=True,
                answer="42" if right else "41",
                reflections=2,
            )


def measured(name: str, length: int, wrong: int, *, hostile: bool = False) -> Run:
    """A run on two tasks, the second with two answers to a problem."""
    first, second = answers("one", length, wrong), answers("two", 2 * length, wrong + 1, 2)
    rows = tuple(
        replace(row, text=HOSTILE[row.id]) if hostile and row.id in HOSTILE else row
        for row in (*first, *second)
    )
    tasks = tuple(
        TaskRecord(task, task, f"{task} digest", 40, 512, repeats)
        for task, repeats in (("one", 1), ("two", 2))
    )
    drawn = Sampling(None, 0.6, 0.95)
    made = Experiment(name, name, tasks, drawn, "replay", "float32", "stock", "exact 1")
    return Run(name, made, rows, True)


def family() -> RunComparison:
    return compare(
        [
            measured("system2", 300, 9),
            measured("brief", 150, 5, hostile=True),
            measured(HARMFUL, 200, 4),
        ],
        baseline="system2",
    )


@dataclass(frozen=True)
class Visit:
    """An open page and all that it said and asked for."""

    page: Page
    errors: list[str]
    requests: list[str]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_html(family()), encoding="utf-8")
    errors: list[str] = []
    requests: list[str] = []
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.set_default_timeout(60_000)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-charts=ready][data-answers=ready]", state="attached")
        yield Visit(page, errors, requests)
        browser.close()


def choose(page: Page, **values: str) -> str:
    """Set choices of the browser of answers; how many answers are found then."""
    for name, value in values.items():
        page.select_option(f"#a-{name}", value)
        page.wait_for_selector("#read:not([aria-busy])")
    return page.inner_text("#a-count")


def opened(page: Page, problem: str) -> None:
    """Wait until a problem is open."""
    page.locator("#a-title", has_text=f"Problem {problem}").wait_for()


def test_the_charts_are_drawn_and_a_tab_shows_the_other_task(visit: Visit) -> None:
    page = visit.page
    page.wait_for_selector("#chart-0-front.drawn .main-svg")
    assert page.is_visible("#task-0")
    assert not page.is_visible("#task-1")
    page.focus("#tab-0")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#chart-1-front.drawn .main-svg")
    assert not page.is_visible("#task-0")
    assert page.get_attribute("#tab-1", "aria-selected") == "true"
    page.click("#tab-0")
    page.locator("#chart-0-level").scroll_into_view_if_needed()
    page.wait_for_selector("#chart-0-level.drawn .main-svg")


def test_filters_find_what_happened(visit: Visit) -> None:
    page = visit.page
    assert choose(page, task="0", left="system2", right="brief") == "40 of 40 answers"
    right = {i for i in range(40) if i % 9}
    still, now_wrong = {i for i in right if i % 5}, {i for i in right if not i % 5}
    assert choose(page, kind="shorterRight") == f"{len(still)} of 40 answers"
    assert choose(page, kind="shorterWrong") == f"{len(now_wrong)} of 40 answers"
    there = page.locator("#a-rows tr .open").all_inner_texts()
    assert there == [f"q{i:02}" for i in sorted(now_wrong)]
    easy = {i for i in now_wrong if i % 3 == 0}
    assert choose(page, level="1") == f"{len(easy)} of 40 answers"
    assert choose(page, level="", kind="all", outcome="1") == "8 of 40 answers"
    page.fill("#a-search", "(35)")
    assert page.locator("#a-rows tr .open").all_inner_texts() == ["q35"]
    page.fill("#a-search", "")
    assert choose(page, outcome="") == "40 of 40 answers"
    page.click("#a-on")
    assert page.inner_text("#a-page") == "26\N{EN DASH}40 of 40"
    assert choose(page, task="1") == "80 of 80 answers"
    assert page.locator("#a-rows tr .open").first.inner_text() == "q00, answer 1"
    choose(page, task="0")


def test_a_pair_opens_by_keyboard_with_thoughts_folded_and_places_marked(visit: Visit) -> None:
    page = visit.page
    choose(page, task="0", left="system2", right=HARMFUL, kind="shorterRight")
    page.locator("#a-rows .open").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#a-open:not([hidden]) .pair")
    assert page.inner_text("#a-title") == "Problem q01"
    assert page.locator(".pair article h4").all_inner_texts() == ["system2", HARMFUL]
    left = page.locator(".pair article").first
    assert left.locator("details .prose").count() == 0
    assert left.locator("math").count() == 3
    left.locator("summary").click()
    left.locator("details .prose").wait_for()
    marks = left.locator("details mark.reflects").all_inner_texts()
    assert [words.lower() for words in marks] == ["wait", "let me check"]
    assert left.locator("mark.answered").count() == 1
    assert left.locator("details mark.answered").inner_text().startswith("42")
    page.focus("#a-title")
    page.keyboard.press("j")
    opened(page, "q02")
    page.keyboard.press("Escape")
    assert not page.is_visible("#a-open")
    assert page.evaluate("document.activeElement.textContent") == "q02"


@pytest.mark.parametrize("problem", sorted(HOSTILE))
def test_answers_that_mean_harm_are_only_text(visit: Visit, problem: str) -> None:
    page = visit.page
    choose(page, task="0", left="system2", right="brief", kind="all")
    page.fill("#a-search", problem)
    page.locator("#a-rows .open").first.click()
    opened(page, problem)
    reader = page.locator("#a-open")
    reader.locator("article").nth(1).locator(".prose").first.wait_for()
    for tag in ("img", "script", "a", "iframe", "style"):
        assert reader.locator(tag).count() == 0, tag
    shown = reader.locator("article").nth(1).inner_text()
    if problem == "q01":
        assert "<script>window.harmed=1</script>" in shown
    if problem == "q02":
        assert "100,000 more characters are not shown" in shown
    if problem == "q03":
        assert not {"\u202e", "\x1b", "\x00"} & set(shown)
    wide, high = page.evaluate(
        "[document.documentElement.scrollWidth, Math.max(...[...document.querySelectorAll("
        "'#a-open article math')].map((one) => one.getBoundingClientRect().width), 0)]"
    )
    assert wide <= 1000
    assert high < 2000
    page.fill("#a-search", "")
    assert page.evaluate("window.harmed") is None


def test_the_page_fits_a_telephone(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 380, "height": 700})
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.set_viewport_size({"width": 1000, "height": 800})


def test_nothing_was_complained_of_or_asked_of_the_network(visit: Visit) -> None:
    assert visit.errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)
    blocked = "fetch('https://example.com/').then(() => 'sent', () => 'blocked')"
    assert visit.page.evaluate(blocked) == "blocked"


def unpacked(block: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(block)))


def test_the_packed_answers_hold_every_text_and_the_index_its_facts() -> None:
    found = pack_answers(family())
    one, two = found.head["tasks"]
    assert (one["left"], one["right"]) == ("system2", "brief")
    assert one["sample"] == ""
    index = unpacked(found.blocks[two["index"]])
    texts = [text for part in two["chunks"] for text in unpacked(found.blocks[part["id"]])]
    assert [part["first"] for part in two["chunks"]] == [0, 7]
    assert len(texts) == len(index["ids"]) == 40
    assert index["repeats"] == 2
    assert texts[3]["answers"]["system2"]["1"] == [THOUGHT + ANSWER, "42"]
    assert index["runs"]["system2"]["length"][7] == 2 * 300 + 7 * 3
    assert pack_answers(family()) == found


def test_a_page_that_would_be_too_large_keeps_a_sample_and_says_so() -> None:
    comparison = family()
    whole = pack_answers(comparison)
    size = sum(len(block) for name, block in whole.blocks.items() if name.startswith("texts"))
    some = pack_answers(comparison, size / 2e6)
    kept = [unpacked(some.blocks[task["index"]])["ids"] for task in some.head["tasks"]]
    for task, ids in zip(some.head["tasks"], kept, strict=True):
        assert 0 < len(ids) < 40
        assert task["sample"].startswith(f"A sample: {len(ids)} of 40 problems")
    assert pack_answers(comparison, 0).blocks == {}
    assert 'id="a-open"' not in to_html(comparison, texts=0)
