"""Copy the pictures of docs/oasis.md from the latest `make demo-oasis`: `make pictures-oasis`."""

import shutil
import sys
from pathlib import Path

import mlflow

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WANTED = {
    "prepare": ["qc/orthogonal_1.png"],
    "brains": ["brains/real_versus_generated.png", "brains/latent_age_cdr.png", "brains/geodesic.gif"],
}


def main() -> None:
    """Copy the artifacts of the latest finished run of each entry point."""
    for entry_point, paths in WANTED.items():
        chosen = f"tags.`mlflow.project.entryPoint` = '{entry_point}' and attributes.status = 'FINISHED'"
        runs = mlflow.search_runs(
            experiment_names=["geovae-oasis"], filter_string=chosen, max_results=1, output_format="list"
        )
        if not runs:
            raise SystemExit(f"no finished run of {entry_point} in the experiment geovae-oasis: make demo-oasis first")
        for path in paths:
            found = mlflow.artifacts.download_artifacts(run_id=runs[0].info.run_id, artifact_path=path)
            target = PICTURES / f"oasis_{Path(path).name}"
            shutil.copy(found, target)
            sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main()
