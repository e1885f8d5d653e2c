"""Execute docs/tour.py and write it with its output as docs/tour.ipynb: `make notebook`."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "tour.py"


def execute(source: Path = SOURCE, timeout: int = 300) -> Any:
    """Return the executed notebook of a script whose cells begin with `# %%`.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    # nothing that differs between two executions, or machines: random names, times, the kernel's display name
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    options = {"timeout": timeout, "record_timing": False, "coalesce_streams": True}
    return NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}, **options).execute()


def main() -> None:
    """Write the notebook."""
    import nbformat

    nbformat.write(execute(), SOURCE.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
