r"""Prompts: the words around a problem, by name or by a text of one's own.

``cot`` asks a base model, which no chat template fits, by worked examples. The examples are this
package's own: the toolkits' are not reproduced here, and papers do not state them. Theirs end in
"The answer is", ours in a box, which the grader reads without guessing. The other prompts are the
one-line instructions that papers and model cards name, word for word, for they are part of the
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from laconic.errors import TaskError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.runs.run import Sample


@dataclass(frozen=True)
class Prompt:
    """How a problem is put to a model.

    Attributes:
        text: The words, with ``{problem}`` where the problem goes and ``{examples}`` for examples.
        raw: Whether they go to the model as they stand, without its chat template.
        stop: Texts that end a completion, themselves left out.
        strategy: The strategy that puts these words to a model.
        help: What it is for, in one line.
    """

    text: str
    raw: bool = False
    stop: tuple[str, ...] = ()
    strategy: str = "single"
    help: str = ""


BOXED: Final = r"Please reason step by step, and put your final answer within \boxed{}."
BOX: Final = r"Put your final answer within \boxed{}."
CONCISE: Final = "Think step by step, and be concise throughout the reasoning process."
CHATML_ENDS: Final = ("<|im_end|>", "<|endoftext|>", "</s>")

PROMPTS: Final[Mapping[str, Prompt]] = {
    "plain": Prompt("{problem}", help="the problem alone, as a user's turn"),
    "boxed": Prompt(
        f"{{problem}}\n{BOXED}",
        help="the problem and the sentence that R1's model card asks for, as a user's turn",
    ),
    "qwen25-math-cot": Prompt(
        f"<|im_start|>system\n{BOXED}<|im_end|>\n<|im_start|>user\n{{problem}}<|im_end|>\n"
        "<|im_start|>assistant\n",
        raw=True,
        stop=CHATML_ENDS,
        help="ChatML whatever the model's template, no <think>: the L2S paper's for System 2",
    ),
    "cot": Prompt(
        "{examples}Question: {problem}\nAnswer:",
        raw=True,
        stop=("\n\nQuestion:", *CHATML_ENDS),
        help="four worked examples, no chat template: for base models and System 1",
    ),
    "return-boxed": Prompt(
        r"Return your final response within \boxed{}. {problem}",
        help="SkyThought's for MATH500, AIME and AMC: the TL;DR paper's",
    ),
    "concise": Prompt(
        f"{{problem}}\n{CONCISE} {BOX}",
        help="asks for conciseness throughout: the concise-CoT baseline",
    ),
    "tale-ep": Prompt(
        "{problem}",
        strategy="tale",
        help="asks the model for a budget of tokens first, then for an answer within it; both "
        "count (TALE-EP, arXiv 2412.18547; the box is ours)",
    ),
}

#: Worked examples by task; "" serves the tasks that have none of their own.
EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "gsm8k": (
        (
            "A baker fills 7 trays with 12 rolls each and sells 50 of the rolls before noon. How "
            "many rolls are left?",
            r"The trays hold 7 * 12 = 84 rolls. After 50 are sold, 84 - 50 = 34 are left. "
            r"The answer is \boxed{34}.",
        ),
        (
            "Nadia reads 15 pages on each of 4 days and then twice as many on the fifth day. How "
            "many pages does she read in all?",
            r"In four days she reads 4 * 15 = 60 pages. On the fifth she reads 2 * 15 = 30. "
            r"Together that is 60 + 30 = 90. The answer is \boxed{90}.",
        ),
        (
            "A ticket costs $18, and children pay a third less. What do 2 adults and 3 children "
            "pay together?",
            r"A child's ticket costs 18 - 18 / 3 = 12 dollars. Two adults pay 2 * 18 = 36 dollars "
            r"and three children 3 * 12 = 36. Together they pay 36 + 36 = 72 dollars. "
            r"The answer is \boxed{72}.",
        ),
        (
            "A tank of 240 liters is a quarter full. A hose adds 20 liters a minute. After how "
            "many minutes is it full?",
            r"A quarter of 240 is 60 liters, so 240 - 60 = 180 are missing. At 20 liters a minute "
            r"that takes 180 / 20 = 9 minutes. The answer is \boxed{9}.",
        ),
    ),
    "": (
        (
            "For which values of $x$ is $\\sqrt{2x - 6}$ a real number?",
            r"The root is real if $2x - 6 \ge 0$, that is if $x \ge 3$. "
            r"The answer is \boxed{[3,\infty)}.",
        ),
        (
            "Solve the system $3x + y = 11$, $x - y = 1$.",
            r"Adding the equations gives $4x = 12$, so $x = 3$, and $y = x - 1 = 2$. "
            r"The answer is \boxed{(3,2)}.",
        ),
        (
            "A fair die is thrown twice. What is the probability that the sum is $9$?",
            r"Of $36$ outcomes the sum is $9$ for $(3,6)$, $(4,5)$, $(5,4)$ and $(6,3)$, which are "
            r"$4$. The probability is $\frac{4}{36} = \frac{1}{9}$. "
            r"The answer is \boxed{\frac{1}{9}}.",
        ),
        (
            "Find the remainder when $7^{10}$ is divided by $5$.",
            r"Since $7 \equiv 2 \pmod 5$ and $2^4 \equiv 1 \pmod 5$, we have "
            r"$7^{10} \equiv 2^{10} = (2^4)^2 \cdot 2^2 \equiv 4 \pmod 5$. "
            r"The answer is \boxed{4}.",
        ),
    ),
}


def find_prompt(text: str) -> Prompt:
    """The prompt of a name, or one made of a text that holds ``{problem}``.

    Raises:
        TaskError: For a text that is neither.
    """
    if text in PROMPTS:
        return PROMPTS[text]
    if "{problem}" not in text:
        raise TaskError(
            f"The prompt {text!r} has no '{{problem}}' to put the problem in, and no prompt is "
            f"called so. {did_you_mean(text, PROMPTS)}"
        )
    return Prompt(text)


def put(prompt: Prompt, sample: Sample) -> Sample:
    """A sample in a prompt's words."""
    shots = EXAMPLES.get(sample.task, EXAMPLES[""])
    shown = "".join(f"Question: {asked}\nAnswer: {said}\n\n" for asked, said in shots)
    words = prompt.text.replace("{examples}", shown).replace("{problem}", sample.problem)
    return replace(sample, problem=words, raw=prompt.raw, stop=prompt.stop)
