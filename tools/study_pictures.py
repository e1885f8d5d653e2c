"""Copy tables and figures of the latest studies into the documentation: `make pictures-studies`."""

import csv
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow

from experiments.help import as_command
from experiments.leaderboard import RUNS, Contender, Entry
from experiments.tables import Markdown, as_markdown, mean_and_sd

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
FIGURES = {"figure3": ["figure3-mnist_5k-3000-fine_mixture"], "figure4": ["figure4"]}
README = "vae"  # the README shows Table 1 for this model alone


def main() -> None:
    """Copy the figures, and write the tables between the comments `<!-- name -->` and `<!-- /name -->`."""
    wanted = sorted({*FIGURES, *(study for _, study, _ in TABLES)})
    reports = {study: report for study in wanted if (report := latest(study))}
    for study, figures in FIGURES.items():
        for name in figures if study in reports else []:
            target = PICTURES / picture_name(name)
            shutil.copy(reports[study] / "figures" / f"{name}.png", target)
            sys.stdout.write(f"{target}\n")
    for page, study, make in TABLES:
        if study in reports:
            fill(ROOT / page, study, make(reports[study]))


def latest(study: str) -> Path | None:
    """Return a local copy of the report of a study's latest finished run in size medium; None without one."""
    chosen = f"tags.role = 'study' and tags.study = '{study}' and tags.size = 'medium' and status = 'FINISHED'"
    runs = mlflow.search_runs(search_all_experiments=True, filter_string=chosen, max_results=1, output_format="list")
    if not runs:
        sys.stdout.write(f"nothing of {study} yet: {as_command('study', {'name': study, 'size': 'medium'})}\n")
        return None
    return Path(mlflow.artifacts.download_artifacts(run_id=runs[0].info.run_id))


def fill(page: Path, name: str, text: str) -> None:
    """Replace what lies between the two comments of `name`."""
    between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    page.write_text(between.sub(lambda match: f"{match[1]}{text.strip()}\n{match[2]}", page.read_text()))


def picture_name(figure: str) -> str:
    """Return the name of the file in docs/pictures for a figure of a report."""
    return f"study_{re.sub('[^a-z0-9]+', '_', figure)}.png"


def tables(report: Path) -> str:
    """Return the sections of a report from its first data set to its ranks, their headings one level lower."""
    text = (report / "report.md").read_text()
    start, end = text.index("\n## "), text.index("\n## How to read it")
    text = re.sub(r"(?m)^!\[.*\n\n\*.*\n", "", text[start:end] + "\n## ")
    text = re.sub(r"(?s)Diagnostics of the samplers.*?(?=\n## )", "", text).removesuffix("\n## ")
    text = re.sub(rf"(?m)^.* {RUNS} \|(\n\|.*)*$", lambda table: without_last_column(table[0]), text)
    return re.sub(r"\n{3,}", "\n\n", text.replace("\n## ", "\n### "))


def pictures(report: Path, prefix: str) -> str:
    """Copy the figures of a report whose names begin with `prefix`, and return them as Markdown for a page of docs/."""
    found = re.findall(rf"(?m)^!\[(.*)\]\((figures/{prefix}.*\.png)\)$", (report / "report.md").read_text())
    links = []
    for caption, file in found:
        name = picture_name(Path(file).stem)
        shutil.copy(report / file, PICTURES / name)
        links.append(f"![{caption}](pictures/{name})")
    return "\n\n".join(links)


def ablations(report: Path) -> str:
    """Return the tables and panels of the ablation."""
    return tables(report).partition("\n### Ranks")[0] + "\n\n" + pictures(report, "ablation-")


def trade_offs(report: Path) -> str:
    """Return the curves of quality against novelty, and the ranks."""
    return pictures(report, "trade-") + "\n" + "".join(tables(report).partition("\n### Ranks")[1:])


def without_last_column(table: str) -> str:
    """Return a Markdown table without its links to runs, which are in nobody else's store."""
    return re.sub(r"(?m) [^|\n]*\|$", "", table)


def one_screen(report: Path) -> str:
    """Return how the samplers of one model do on each data set: FD on test images, and over that of decoded codes."""
    of_model = [entry for entry in read_entries(report) if entry.contender.model == README]
    samplers = sorted({e.contender.sampler for e in of_model}, key=lambda s: _mean_ratio(of_model, s))
    data = list(dict.fromkeys(entry.data for entry in of_model))
    found = {(entry.data, entry.contender.sampler): entry for entry in of_model}
    rows = [[Markdown(f"`{sampler}`"), *(_cell(found[name, sampler]) for name in data)] for sampler in samplers]
    return as_markdown([f"{README} on", *data], rows)


def _mean_ratio(entries: list[Entry], sampler: str) -> float:
    return statistics.fmean(e.mean("decoded_ratio") for e in entries if e.contender.sampler == sampler)


def _cell(entry: Entry) -> str:
    ratio, distance = (mean_and_sd(entry.values(key)) for key in ("decoded_ratio", entry.headline))
    return f"{ratio} ({distance})" + " copies" * entry.copies


def read_entries(report: Path) -> list[Entry]:
    """Return the entries of a report's scores.csv."""
    entries: dict[tuple[str, Contender], Entry] = {}
    with (report / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
        # the first of each data set: spreads and classes come after the score itself
        heads = {row["data"]: row["score"] for row in reversed(rows) if re.match("fd_|fid$", row["score"])}
        for row in rows:
            contender = Contender(row["model"], row["variant"], row["sampler"])
            entry = Entry(row["data"], contender, heads[row["data"]], {}, {})
            entry = entries.setdefault((row["data"], contender), entry)
            getattr(entry, row["kind"]).setdefault(int(row["seed"]), {})[row["score"]] = float(row["value"])
    return list(entries.values())


TABLES: list[tuple[str, str, Callable[[Path], str]]] = [
    ("README.md", "table1", one_screen),
    ("docs/studies.md", "table1", tables),
    ("docs/volume.md", "ablation", ablations),
    ("docs/novelty.md", "sampler_quality", trade_offs),
]

if __name__ == "__main__":
    main()
