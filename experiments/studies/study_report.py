"""The report that a study ends in: the page of `experiments.page`, and scores.csv with every number.

What every report has (ranks, settings, environment, how to repeat it) is written here; its middle is in `reports`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.describe import environment, git_tags
from experiments.leaderboard import RATIO, Entry, distinct, how_to_read
from experiments.page import Numbers, Part, write_page
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import entries_of, rank
from experiments.studies.reports import REPORTS
from experiments.tables import LONGEST_DESCRIPTION, as_markdown, escape, link, mean_and_sd, without_links

RANKS = """* **Ranks** are within a block (data set x seed), ties share. p: paired t test of the log scores against the
  first contender, adjusted after Holm."""
MODELS = "Each row is *model / sampler*, and what was changed, if anything. A seed decides weights, training and draws."


@dataclass(frozen=True)
class StudyReport:
    """What was written: the page, all files by their path below the folder, and what of it fits a run's description."""

    summary: str
    html: Path
    files: list[Path]


def write_report(
    study: Study,
    outcomes: list[Outcome],
    output: Path,
    failures: Mapping[str, str] | None = None,
    run_url: Callable[[str], str] = lambda run_id: "",
) -> StudyReport:
    """Write report.md, report.html, scores.csv, and the pictures of a study below `figures`, into the folder `output`.

    Args:
        study: what was asked for.
        outcomes: of all its configurations that have one, as `execute` returns them.
        output: an existing folder.
        failures: why others have none, by the name of the run.
        run_url: returns the address of a run, by its id.
    """
    entries = entries_of(study, outcomes, run_url)
    opening = [f"# {study.title}", study.about, bottom_line(entries), undertrained(entries), missing(failures or {})]
    middle = list(REPORTS[study.report](study, entries, outcomes))
    parts: list[Part] = [*opening, *middle, *closing(study, entries, outcomes, run_url), all_numbers(entries)]
    files = write_page(study.title, parts, output)
    texts = [without_links(part) for part in [*opening, *middle] if isinstance(part, str)]
    return StudyReport(in_short(texts), output / "report.html", files)


def missing(failures: Mapping[str, str]) -> str:
    """Return which runs have no result, and why."""
    if not failures:
        return ""
    rows = "\n".join(f"* {escape(name)}: {escape(reason)}" for name, reason in failures.items())
    return f"**{len(failures)} runs failed** and are missing below; ranks leave out who misses a block:\n\n{rows}"


def undertrained(entries: Sequence[Entry]) -> str:
    """Return which models were not trained to the end."""
    names = dict.fromkeys(f"{entry.contender.model} on {entry.data}" for entry in entries if entry.undertrained)
    if not names:
        return ""
    return f"**Undertrained** (†): {escape(', '.join(names))}. Their validation loss was still falling at the end."


def in_short(parts: Sequence[str]) -> str:
    """Return the first parts of a report as far as they fit into a run's description, and where the rest is."""
    kept = ["The whole report is `report.html`, below *Artifacts*."]
    for part in filter(None, parts):
        if len("\n\n".join([*kept, part])) > LONGEST_DESCRIPTION:
            break
        kept.insert(-1, part)
    return "\n\n".join(kept)


def bottom_line(entries: list[Entry]) -> str:
    """Return the study's answer in one paragraph: who is first, and who cannot be told from it."""
    ranking = rank(entries)
    if len(ranking.standings) < 2:
        return ""
    first, *others = ranking.standings
    unsure = [str(s.contender) for s in others if not s.p < 0.05]
    near = [ratio for entry in entries if entry.contender == first.contender for ratio in entry.values(RATIO)]
    text = (
        f"> **{first.contender}** has the best mean rank, {first.rank:.2f} of {len(ranking.standings)} over "
        f"{ranking.blocks} block{'s' * (ranking.blocks > 1)} (data set x seed), by `{entries[0].headline}` on test "
        f"images; nearest train {mean_and_sd(near)}. "
    )
    if ranking.blocks < 2:
        return text + "With one block nothing can be tested: this shows how things work, not who is better."
    worse = f"{len(others) - len(unsure)} of the {len(others)} others are worse beyond chance"
    rest = f"; not told apart from it: {', '.join(unsure[:6])}{', ...' if len(unsure) > 6 else ''}" if unsure else ""
    return f"{text}{worse} (paired t test, Holm-adjusted p < 0.05){rest}."


def closing(
    study: Study, entries: Sequence[Entry], outcomes: list[Outcome], run_url: Callable[[str], str]
) -> Iterator[str]:
    """Yield what every report ends with."""
    yield f"## How to read it\n\n{MODELS}\n\n{how_to_read(entries)}{RANKS}"
    yield "## Settings\n\nFrom the study's file:\n\n" + _as_yaml(study.source)
    yield "The whole configuration of one training for each data set; the other models differ as listed above:"
    for data in study.data:
        first = next(cell for cell in study.cells if cell.data == data)
        yield _as_yaml({first.name: first.configs[TRAINED]})
    about = environment() | {name.rpartition(".")[2]: text for name, text in git_tags().items()}
    yield "## Environment\n\n" + as_markdown(["what", "which"], [[*item] for item in about.items()])
    yield f"## How to repeat it\n\n```\n{study.command}\n```\n\nFinished runs are not repeated."
    trained = [(o.cell.name, o.found.run_id) for o in outcomes if o.found.run_id and o.variant == TRAINED]
    if trained:
        links = ", ".join(f"{link(name, run_url(run_id))} `{run_id}`" for name, run_id in trained)
        yield f"## Runs\n\n{len(outcomes)} runs; the {len(trained)} trained models: {links}."


def _as_yaml(content: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # without the anchors that YAML gives to what occurs twice
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return f"```yaml\n{text.strip()}\n```"


def all_numbers(entries: Sequence[Entry]) -> Numbers:
    """Return every number of the study, one row for each data set, contender, seed and score."""
    rows = [
        [entry.data, *entry.contender, seed, part, score, value]
        for entry in distinct(entries)
        for part in ("val", "test", "diagnostics")
        for seed, scores in getattr(entry, part).items()
        for score, value in scores.items()
    ]
    return Numbers("scores", ["data", "model", "variant", "sampler", "seed", "kind", "score", "value"], rows)
