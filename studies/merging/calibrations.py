"""The statistics that some methods of the study read: which samples, which models, which files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.calibration.calibrate import calibrate, prepare
from laconic.merging.merge import merge
from studies.merging.menu import Statistics, acm_parents, sensitive, ties_aim

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.calibration.calibrate import Reduce
    from laconic.calibration.record import Kind
    from laconic.merging.recipe import Recipe
    from studies.bench import Bench
    from studies.family import Family

#: Where calibration samples come from: problems that no figure of the study is about.
SOURCE: Final = "lab:split=dev,size=250,seed=1"
#: How many samples the paper takes, and what else is tried.
COUNT: Final = 100
COUNTS: Final = (10, 20, 100)
KINDS: Final = ("short", "long", "both")


@dataclass(frozen=True)
class Samples:
    """Right answers to the same problems: System 1's are short, System 2's are long.

    Attributes:
        folder: Gets a file for each set.
        rows: Question, short and long answer.
    """

    folder: Path
    rows: tuple[tuple[str, str, str], ...]

    @classmethod
    def sample(cls, bench: Bench, f: Family) -> Samples:
        """Ask both parents and keep the problems that both get right."""
        runs = bench.runs("samples", SOURCE, {"system1": f.system1, "system2": f.system2})
        long = {r.id: r for r in runs["system2"].results if r.correct}
        rows = tuple(
            (r.problem, r.text, long[r.id].text)
            for r in runs["system1"].results
            if r.correct and r.id in long
        )
        return cls(bench.output / "samples", rows)

    def file(self, kind: str, count: int = COUNT) -> str:
        """A set of a kind: ``short`` or ``long`` answers, or ``both`` by turns."""
        path = self.folder / f"{kind}-{count}.jsonl"
        long = {"short": (False,), "long": (True,), "both": (False, True)}[kind]
        answered = (
            {"problem": asked, "response": slow if long[i % len(long)] else quick}
            for i, (asked, quick, slow) in enumerate(self.rows[:count])
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in answered), encoding="utf-8")
        return str(path)


@dataclass(frozen=True)
class Calibrations:
    """Makes files of statistics, each once.

    Attributes:
        folder: Gets them.
        family: Whose models are measured.
        samples: What they are shown.
    """

    folder: Path
    family: Family
    samples: Samples

    def file(
        self,
        kind: Kind,
        member: str,
        samples: str,
        count: int = COUNT,
        *,
        against: str | None = None,
        name: str = "",
        reduce: Reduce = "none",
    ) -> str:
        """The path of a file of statistics; measured where it is not there yet.

        Args:
            kind: Which statistics.
            member: The model: a member of the family, or a checkpoint's folder.
            samples: What it is shown: a kind of `Samples`, or ``random``.
            count: How many samples.
            against: The checkpoint it is compared with.
            name: What the file is called where `member` is a folder.
            reduce: As for `calibrate`.
        """
        path = self.folder / f"{kind}-{name or member}-{samples}-{count}.safetensors"
        if not path.exists():
            data = samples if samples == "random" else self.samples.file(samples, count)
            model = self.family.members.get(member, member)
            calibrate(prepare(model, data, kind, against=against, reduce=reduce), path)
        return str(path)

    def sensitivity(self, samples: str, count: int = COUNT) -> tuple[str, str]:
        """Of the base and of System 2; ``both`` is the paper's way: each on the other's answers."""
        slow, quick = ("long", "short") if samples == "both" else (samples, samples)
        return (
            self.file("sensitivity", "base", slow, count),
            self.file("sensitivity", "system2", quick, count),
        )

    def all(self) -> Statistics:
        """Everything that the menu asks for."""
        models = self.folder.parent / "models" / "parents"
        shared = {}
        for name, recipe in acm_parents(self.family).items():
            if not (models / name).exists():
                merge(recipe, models / name)
            shared[name] = self.file(
                "mutual_information",
                str(models / name),
                "short",
                against=self.family.base,
                name=name,
            )
        return Statistics(
            activations=self.file("activations", "base", "short"),
            sensitivity=self.sensitivity("both"),
            fisher=(
                self.file("fisher", "system1", "short"),
                self.file("fisher", "system2", "long"),
            ),
            gram=(self.file("gram", "system1", "short"), self.file("gram", "system2", "long")),
            layers=self.file("fisher", "base", "random", 8, reduce="tensor"),
            shared=shared,
        )

    def variants(self) -> dict[str, str | Recipe]:
        """AIM and Sens-Merging with other numbers and kinds of samples, beside System 2."""
        recipes: dict[str, str | Recipe] = {"system2": self.family.system2}
        for kind in KINDS:
            for count in COUNTS:
                label = f"{count} {kind}"
                activations = self.file("activations", "base", kind, count)
                recipes[f"AIM-TIES, {label}"] = ties_aim(self.family, 0.4, 0.4, activations)
                files = self.sensitivity(kind, count)
                recipes[f"Sens-Merging, {label}"] = sensitive(self.family, 0.5, 2.0, files)
        return recipes
