"""The report that a study ends in: Markdown, the same as one self-contained HTML file, its pictures, and a CSV file.

A report is a list of parts, in the order in which they are read: Markdown, or a named picture with its caption. What
every report has (ranks, settings, environment, how to repeat it) is written here; its middle comes from `REPORTS`.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from experiments.run import environment
from experiments.studies.execute import Outcome
from experiments.studies.page import as_html, table
from experiments.studies.pictures import RATIO
from experiments.studies.plan import Study
from experiments.studies.statistics import Line, lines_of, rank, spread
from experiments.studies.views import PARTS, Numbers, Part, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


HOW_TO_READ = """## How to read it

`{name}` is the Frechet distance of features of `{extractor}` between {n_samples} samples (cut to as many as there are
real images) and real images; lower is better. {warning}*Real against real* is what perfect looks like at this n.
*Nearest train*: median distance of a sample to its nearest training image over that of a held-out image: 1 is as new as
real data, towards 0 the samples are copies. Numbers are mean ± standard deviation over seeds. Validation images serve
to choose, test images to report. Ranks are within a block, ties share; p values are of paired t tests of log scores
against the first, adjusted after Holm."""


@dataclass(frozen=True)
class Report:
    """What was written: the files, and what of it fits a run's description."""

    summary: str
    markdown: Path
    html: Path


def write_report(study: Study, outcomes: list[Outcome], output: Path) -> Report:
    """Write report.md, report.html, scores.csv and the pictures of a study into the folder `output`.

    Args:
        study: what was asked for.
        outcomes: of all its configurations, as `execute` returns them.
        output: an existing folder.
    """
    lines = lines_of(study, outcomes)
    opening = [f"# {study.title}", study.about, bottom_line(lines)]
    middle = list(PARTS[study.report](study, lines, outcomes))
    pages = [*opening, *_placed(middle, output), *closing(study, outcomes)]
    markdown, html = output / "report.md", output / "report.html"
    markdown.write_text("\n\n".join(pages) + "\n")
    html.write_text(as_html(markdown.read_text(), output, study.title))
    write_csv(lines, output / "scores.csv")
    return Report("\n\n".join([*opening, *(part for part in middle if isinstance(part, str))]), markdown, html)


def _placed(parts: Sequence[Part], output: Path) -> Iterator[str]:
    """Write pictures and tables of numbers, and yield every other part as Markdown, pictures by their names."""
    for part in parts:
        if isinstance(part, Picture):
            _save(part.figure, output / f"{part.name}.png")
            yield f"![{part.caption}]({part.name}.png)\n\n*{part.caption}*"
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
    yield HOW_TO_READ.format(
        name=name,
        extractor=config["extractor"],
        n_samples=config["n_samples"],
        warning=""
        if name == "fid"
        else "**It is not FID**, whose features are Inception's, and compares with no FID. ",
    )
    settings = yaml.safe_dump(
        study.source, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    ).strip()
    yield f"## Settings\n\n```yaml\n{settings}\n```"
    yield "## Environment\n\n" + table(["what", "which"], [list(item) for item in environment().items()])
    flags = "".join(f" -P {flag.removeprefix('--')}" for flag in study.flags)
    command = f"mlflow run . --env-manager local -e study -P name={study.name} -P size={study.size}{flags}"
    yield f"## How to repeat it\n\n```\n{command}\n```\n\nRuns that are finished in the experiment are not repeated."
    trained = [f"{o.cell.name} `{o.found.run_id}`" for o in outcomes if o.found.run_id and not o.variant]
    if trained:
        yield f"## Runs\n\n{len(outcomes)} runs; the {len(trained)} trained models: {', '.join(trained)}."


def write_csv(lines: list[Line], path: Path) -> None:
    """Write every number of the study, one row for each data set, way, seed and score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "model", "variant", "sampler", "seed", "kind", "score", "value"])
        for line in lines:
            for kind in ("val", "test", "diagnostics"):
                for seed, scores in getattr(line, kind).items():
                    for score, value in scores.items():
                        writer.writerow([line.data, *line.way, seed, kind, score, value])
