"""Tables, as Markdown, of the JSON lines of `gpu.py`: `python benchmarks/gpu_report.py OUT.jsonl`."""

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

HIDDEN = {"section", "case", "ended", "waited", "output", "measured_steps", "n", "k", "d", "transitions", "leapfrog"}


def shown(value: Any) -> str:
    """Return a cell."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, list):
        return " to ".join(shown(v) for v in value) if len(value) == 2 else ", ".join(shown(v) for v in value)
    return str(value).strip().splitlines()[-1] if str(value).strip() else ""


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as one table, a column for each key."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in HIDDEN))
    lines = ["| case | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join([row["case"], *(shown(row.get(key, "")) for key in columns)]) + " |" for row in rows]
    return "\n".join(lines)


def speedups(rows: list[dict[str, Any]]) -> str:
    """Return how many times as fast as the dense formulation each way is."""
    seconds = {row["case"]: row["seconds"] for row in rows if "seconds" in row}
    lines = []
    for case, theirs in seconds.items():
        if case.startswith("dense"):
            size = case.removeprefix("dense ")
            ways = {
                way: theirs / seconds[f"{way} {size}"]
                for way in ("plain", "graph", "fused")
                if f"{way} {size}" in seconds
            }
            lines.append(f"* {size}: " + ", ".join(f"{way} {ratio:.3g} times" for way, ratio in ways.items()))
    return "\n".join(lines)


def report(lines: list[dict[str, Any]]) -> str:
    """Return the report of all sections."""
    parts = []
    for section, group in groupby(sorted(lines, key=lambda line: line["section"]), key=lambda line: line["section"]):
        of_section = list(group)
        rows = [line for line in of_section if "case" in line]
        ends = [line for line in of_section if "ended" in line]
        parts.append(f"## {section}\n")
        parts.append(table(rows) if rows else "")
        if section == "sampling":
            parts.append("\nFaster than the dense published formulation:\n\n" + speedups(rows))
        parts += [
            f"\nended with {line['ended']}\n\n```\n{line['output'].strip()}\n```" for line in ends if "output" in line
        ]
    return "\n".join(parts)


def main() -> None:
    """Print the report of a file."""
    print(report([json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]))


if __name__ == "__main__":
    main()
