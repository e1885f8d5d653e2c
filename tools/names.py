"""Write docs/names.md from geovae/tracking/names.py: `make names`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from geovae.tracking.names import ARTIFACTS, DIAGNOSTICS, IMAGES, LOSSES, METRICS, PARAMETERS, SCORES, TAGS, Row

PAGE = Path(__file__).parents[1] / "docs" / "names.md"
HEAD = """# Names of what a run records

Generated from `geovae/tracking/names.py` by `make names`. A word in `<angles>` stands for a name of its table below,
or for any name where there is no such table. MLflow groups charts by what stands before the first slash,
so `train/`, `val/`, `score/`, `sampler/` are groups in the UI without any configuration.

Searches, in the UI's field or in `search_runs`; a name with a slash or a dot stands in double quotes or backticks:

```
metrics."score/fid" < 20 and tags.model = 'vae'
metrics."score/fd_random-conv-v1" < 7 and tags.dataset = 'digits'
params."cfg.model.latent_dim" = '10' and metrics."best/val_loss" < 30
tags.role = 'comparison'
tags.mlflow.parentRunId = 'RUN_ID'
```

The model's name is a *tag* (and `cfg.model.name` a parameter). A parameter called plain `model` may exist too: those
without `cfg.` are what `mlflow run` itself wrote down of its command line, quoted for a shell (`''` is "not given"),
and MLflow takes no second value for a key. Ours all begin with `cfg.` or `n_`.

`score/<score>` is what to compare runs by: test images, and the sampler that was chosen on validation images. A score
that is NaN or infinite is never a metric but a tag `not_finite.<metric>`: MLflow would rank it as 0.
"""
TAIL = """
## Data sets

A run names its inputs `<dataset>-train`, `<dataset>-val`, `<dataset>-test` with the context of the same name; the
digest is a hash of the content, the same wherever and whenever the same images were read.
"""


def as_markdown() -> str:
    """Return the page."""
    parts = [
        HEAD,
        *_table("Metrics", METRICS),
        *_table("`<loss>`", LOSSES),
        *_table("`<score>`", SCORES),
        "A prefix `real_` says what real images give beside the same reference (what perfect looks like), "
        "`reconstructions_` compares the samples with reconstructions; a suffix `_sd` or `_stderr` is the spread of "
        "the number, `_class<label>` the number within one class.\n",
        *_table("`<diagnostic>`", DIAGNOSTICS),
        *_table("Parameters", PARAMETERS),
        *_table("Tags", TAGS),
        *_table("Artifacts", ARTIFACTS),
        *_table("Images with steps", IMAGES),
    ]
    return "\n".join(parts) + TAIL


def _table(title: str, rows: Mapping[str, Row]) -> list[str]:
    """Return a section; columns that nobody fills are left out."""
    units, judged = any(r.unit != "-" for r in rows.values()), any(r.better for r in rows.values())
    heads = ["name", "meaning", *(["unit"] if units else []), *(["better"] if judged else [])]
    lines = [f"\n## {title}\n", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, row in rows.items():
        cells = [f"`{name}`", row.meaning, *([row.unit] if units else []), *([row.better] if judged else [])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    PAGE.write_text(as_markdown())
    sys.stdout.write(f"{PAGE}\n")
