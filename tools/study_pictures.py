"""Fetch tables and figures of the documentation from the latest small studies: `make pictures-studies`."""

import csv
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow

from experiments.studies.page import table
from experiments.studies.paper import TABLE1
from experiments.studies.pictures import RATIO
from experiments.studies.statistics import Line, Way, rank, spread

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
FIGURES = {
    "ablation": ["ablation-digits"],
    "sampler_quality": ["trade-digits", "samples-digits"],
    "figure3": ["figure3-digits-riemannian"],
}


def main() -> None:
    """Copy the figures, and write the tables between their marks `<!-- name -->` and `<!-- /name -->`."""
    wanted = sorted({*FIGURES, *(study for _, study, _ in TABLES)})
    reports = {study: report for study in wanted if (report := latest(study))}
    for study, figures in FIGURES.items():
        for name in figures if study in reports else []:
            target = PICTURES / f"study_{name.replace('-', '_')}.png"
            shutil.copy(reports[study] / "figures" / f"{name}.png", target)
            sys.stdout.write(f"{target}\n")
    for page, study, make in TABLES:
        if study in reports:
            fill(ROOT / page, study, make(reports[study]))


def latest(study: str) -> Path | None:
    """Return a local copy of the report of the latest finished run of a study in size small, None without one."""
    chosen = f"tags.role = 'study' and tags.study = '{study}' and tags.size = 'small' and status = 'FINISHED'"
    runs = mlflow.search_runs(search_all_experiments=True, filter_string=chosen, max_results=1, output_format="list")
    if not runs:
        sys.stdout.write(f"nothing of {study}: mlflow run . -e study -P name={study} -P size=small first\n")
        return None
    return Path(mlflow.artifacts.download_artifacts(run_id=runs[0].info.run_id))


def fill(page: Path, mark: str, text: str) -> None:
    """Replace what lies between the marks."""
    between = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    page.write_text(between.sub(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", page.read_text()))


def tables(report: Path) -> str:
    """Return the sections of a report from its first data set to its ranks, their headings one level lower."""
    text = (report / "report.md").read_text()
    start, end = text.index("\n## "), text.index("\n## How to read it")
    text = re.sub(r"(?m)^!\[.*\n\n\*.*\n", "", text[start:end] + "\n## ")
    text = re.sub(r"(?s)What the samplers say.*?(?=\n## )", "", text).removesuffix("\n## ").replace("\n## ", "\n### ")
    return re.sub(r"\n{3,}", "\n\n", text)


def one_screen(report: Path) -> str:
    """Return Table 1 with one row for each way: scores on test images, nearest train, mean rank; the first on top."""
    labels = {(row.model, row.sampler): row.label for row in TABLE1}
    lines = [line for line in read_lines(report) if (line.way.model, line.way.sampler) in labels]
    data = list(dict.fromkeys(line.data for line in lines))
    ranking = rank(lines)
    ranked = ranking.blocks > 1
    rows = []
    for standing in ranking.standings:
        own = [next(line for line in lines if line.way == standing.way and line.data == name) for name in data]
        numbers = [spread(line.values(key)) for line in own for key in (line.headline, RATIO)]
        numbers += [f"{standing.rank:.1f}"] if ranked else []
        rows.append([labels[standing.way.model, standing.way.sampler], *numbers])
    head = [title for name in data for title in (f"{name}: FD test", "nearest train")]
    return table(["way", *head, *(["mean rank"] if ranked else [])], rows)


def read_lines(report: Path) -> list[Line]:
    """Return the lines of a report's scores.csv."""
    lines: dict[tuple[str, Way], Line] = {}
    with (report / "scores.csv").open() as file:
        for row in csv.DictReader(file):
            way = Way(row["model"], row["variant"], row["sampler"])
            head = "fd_random-conv-v1"
            line = lines.setdefault((row["data"], way), Line(row["data"], way, head, {}, {}, {}))
            getattr(line, row["kind"]).setdefault(int(row["seed"]), {})[row["score"]] = float(row["value"])
    return list(lines.values())


TABLES: list[tuple[str, str, Callable[[Path], str]]] = [
    ("README.md", "table1", one_screen),
    ("docs/studies.md", "table1", tables),
    ("docs/temperature.md", "ablation", lambda report: tables(report).partition("\n### Ranks")[0]),
    ("docs/temperature.md", "sampler_quality", tables),
]

if __name__ == "__main__":
    main()
