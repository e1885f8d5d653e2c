"""The report that a study ends in: Markdown, the same as one self-contained HTML file, its pictures, and a CSV file.

A report is a list of parts, in the order in which they are read: Markdown, or a named picture with its caption. What
every report has (ranks, settings, environment, how to repeat it) is written here; its middle comes from `REPORTS`.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from experiments.config import DEFAULT_SCORES
from experiments.describe import environment, git_tags
from experiments.studies.execute import Outcome
from experiments.studies.page import as_html, table
from experiments.studies.pictures import RATIO
from experiments.studies.plan import TRAINED, Study
from experiments.studies.statistics import Line, distinct, lines_of, rank, spread
from experiments.studies.views import PARTS, Numbers, Part, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LONGEST_DESCRIPTION = 7500  # characters; MLflow cuts a tag at 8000
HOW_TO_READ = """## How to read it

* A **way** of making images is *model / sampler*, and what was changed, if anything. Numbers are mean ± standard
  deviation over seeds; a seed decides weights, training and draws. Validation images (*val*) serve to choose, test
  images to report.
* **{name}**: Frechet distance between features of `{extractor}` of {n_samples} samples (cut to the number of real
  images) and of real images; lower is better. {warning}*Real against real*: what perfect looks like at this n.{others}
* **Nearest train**: median distance of a sample to its nearest training image over that of a held-out image: 1 is as
  new as real data, towards 0 the samples are copies, above 1 they lie off the data. Read it beside every score.
* **Ranks** are within a block (data set x seed), ties share. p: paired t test of the log scores against the first way,
  adjusted after Holm."""
OTHERS = {
    "kid": " **KID**: the same features, a distance without bias at small n; lower is better.",
    "prd": " **F8, F1/8** (PRD): recall-like and precision-like, 0 to 1, higher is better.",
}


@dataclass(frozen=True)
class Report:
    """What was written: the page, all files by their path below `output`, and what of it fits a run's description."""

    summary: str
    html: Path
    files: list[Path]


def write_report(
    study: Study, outcomes: list[Outcome], output: Path, failures: Mapping[str, str] | None = None
) -> Report:
    """Write report.md, report.html, scores.csv, and the pictures of a study below `figures`, into the folder `output`.

    Args:
        study: what was asked for.
        outcomes: of all its configurations that have one, as `execute` returns them.
        output: an existing folder.
        failures: why others have none, by the name of the run.
    """
    lines = lines_of(study, outcomes)
    opening = [f"# {study.title}", study.about, bottom_line(lines), missing(failures or {})]
    middle = list(PARTS[study.report](study, lines, outcomes))
    pages = [*opening, *_placed(middle, output), *closing(study, outcomes)]
    text = "\n\n".join(page for page in pages if page) + "\n"
    (output / "report.md").write_text(text)
    (output / "report.html").write_text(as_html(text, output, study.title))
    write_csv(lines, output / "scores.csv")
    files = [f"figures/{part.name}.png" for part in middle if isinstance(part, Picture)]
    files += [f"{part.name}.csv" for part in middle if isinstance(part, Numbers)]
    return Report(
        in_short([*opening, *(part for part in middle if isinstance(part, str))]),
        output / "report.html",
        [Path(name) for name in ("report.md", "report.html", "scores.csv", *files)],
    )


def missing(failures: Mapping[str, str]) -> str:
    """Return which runs have no result, and why."""
    if not failures:
        return ""
    rows = "\n".join(f"* `{name}`: {reason}" for name, reason in failures.items())
    return (
        f"**{len(failures)} runs failed** and are missing below; ranks leave out the ways that lack a block:\n\n{rows}"
    )


def in_short(parts: Sequence[str]) -> str:
    """Return the first parts of a report as far as they fit into a run's description, and where the rest is."""
    kept = ["The whole report is `report.html`, below *Artifacts*."]
    for part in parts:
        if len("\n\n".join([*kept, part])) > LONGEST_DESCRIPTION:
            break
        kept.insert(-1, part)
    return "\n\n".join(kept)


def _placed(parts: Sequence[Part], output: Path) -> Iterator[str]:
    """Write pictures and tables of numbers, and yield every other part as Markdown, pictures by their names."""
    (output / "figures").mkdir(exist_ok=True)
    for part in parts:
        if isinstance(part, Picture):
            _save(part.figure, output / "figures" / f"{part.name}.png")
            yield f"![{part.caption}](figures/{part.name}.png)\n\n*{part.caption}*"
        elif isinstance(part, Numbers):
            with (output / f"{part.name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([part.head, *part.rows])
        else:
            yield part


def _save(figure: "Figure", path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def bottom_line(lines: list[Line]) -> str:
    """Return the study's answer in one paragraph: who is first, and who cannot be told from it."""
    ranking = rank(lines)
    if len(ranking.standings) < 2:
        return ""
    first, *others = ranking.standings
    unsure = [str(s.way) for s in others if not s.p < 0.05]
    near = [ratio for line in lines if line.way == first.way for ratio in line.values(RATIO)]
    text = (
        f"> **{first.way}** has the best mean rank, {first.rank:.2f} of {len(ranking.standings)} over {ranking.blocks} "
        f"block{'s' * (ranking.blocks > 1)} (data set x seed), by `{lines[0].headline}` on test images; nearest train "
        f"{spread(near)}. "
    )
    if ranking.blocks < 2:
        return text + "With one block nothing can be tested: this says how things work, not who is better."
    told = f"{len(others) - len(unsure)} of the {len(others)} others are worse beyond chance"
    left = f"; not told apart from it: {', '.join(unsure[:6])}{', ...' if len(unsure) > 6 else ''}" if unsure else ""
    return f"{text}{told} (paired t test, Holm-adjusted p < 0.05){left}."


def closing(study: Study, outcomes: list[Outcome]) -> Iterator[str]:
    """Yield what every report ends with."""
    config = outcomes[0].cell.configs[outcomes[0].variant]
    name = outcomes[0].headline
    scores = {score for o in outcomes for score in o.cell.configs[o.variant]["scores"] or DEFAULT_SCORES}
    yield HOW_TO_READ.format(
        name=name,
        extractor=config["extractor"],
        n_samples=config["n_samples"],
        warning=""
        if name == "fid"
        else "**It is not FID**, whose features are Inception's, and compares with no FID. ",
        others="".join(text for score, text in OTHERS.items() if score in scores),
    )
    yield "## Settings\n\nWhat the study says:\n\n" + _yaml(study.source)
    yield "What its trainings therefore used, the first of each data set (the other models differ as said above):"
    for data in study.data:
        first = next(cell for cell in study.cells if cell.data == data)
        yield _yaml({first.name: first.configs[TRAINED]})
    about = environment() | {name.rpartition(".")[2]: text for name, text in git_tags().items()}
    yield "## Environment\n\n" + table(["what", "which"], [[*item] for item in about.items()])
    yield f"## How to repeat it\n\n```\n{study.command}\n```\n\nWhat the experiment holds as finished is not repeated."
    trained = [f"{o.cell.name} `{o.found.run_id}`" for o in outcomes if o.found.run_id and not o.variant]
    if trained:
        yield f"## Runs\n\n{len(outcomes)} runs; the {len(trained)} trained models: {', '.join(trained)}."


def _yaml(content: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # without the anchors that YAML gives to what is said twice
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return f"```yaml\n{text.strip()}\n```"


def write_csv(lines: list[Line], path: Path) -> None:
    """Write every number of the study, one row for each data set, way, seed and score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "model", "variant", "sampler", "seed", "kind", "score", "value"])
        for line in distinct(lines):
            for kind in ("val", "test", "diagnostics"):
                for seed, scores in getattr(line, kind).items():
                    for score, value in scores.items():
                        writer.writerow([line.data, *line.way, seed, kind, score, value])
