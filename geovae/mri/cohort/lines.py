"""The lines of a table file (csv, tsv, xlsx) as text; whatever would give another value in silence is refused."""

import csv
import io
import zipfile
from pathlib import Path

from geovae.mri.cohort.rows import find_columns

LARGEST = 1 << 26  # bytes of a table, unpacked
ROWS, WIDTH = 50_000, 256  # lines and columns of an xlsx file that are read; of a csv file, all that its bytes hold


def read_lines(path: Path) -> list[list[str]]:
    """Return the cells of every line that is not blank, the header first.

    Raises:
        ValueError: if the file is damaged, cut short or too large, holds no rows, or a formula without a value.
    """
    try:
        cells = _read_xlsx(path) if path.suffix == ".xlsx" else _read_text(path)
    except Exception as error:  # openpyxl raises what zipfile, its XML parser and itself find wrong
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"`{path.name}` cannot be read as a table: {reason}") from error
    lines = [line for line in cells if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise ValueError(f"`{path.name}` holds no rows")
    return lines


def _read_xlsx(path: Path) -> list[list[str]]:
    """Return the cells of the first sheet; a formula has the value that was stored with it, and must have one."""
    from openpyxl import load_workbook
    from openpyxl.utils import get_column_letter

    with zipfile.ZipFile(path) as archive:
        if (size := sum(member.file_size for member in archive.infolist())) > LARGEST:
            raise ValueError(f"it unpacks to {size} bytes, at most {LARGEST} are read: save it as csv")
    read = []
    for values in (True, False):  # what Excel calculated, and what somebody typed
        book = load_workbook(path, read_only=True, data_only=values)
        # capped: one cell in the last row and column would stand for 17 billion
        lines = book.active.iter_rows(max_row=ROWS + 1, max_col=WIDTH, values_only=True)
        read.append(list(lines))
        book.close()
        if len(read[0]) > ROWS:
            raise ValueError(f"it has more than {ROWS} lines: save it as csv")
    for row, (found, typed) in enumerate(zip(*read, strict=True), 1):
        for column, (value, formula) in enumerate(zip(found, typed, strict=True), 1):
            if value is None and formula is not None:
                cell = f"{get_column_letter(column)}{row}"
                raise ValueError(f"cell {cell} holds a formula, {str(formula)[:30]}, without a value: save it by Excel")
    width = max(map(len, read[0]), default=0)  # rows end with their last cell that is not empty
    lines = [[*line, *[None] * (width - len(line))] for line in read[0]]
    return [["" if c is None else str(c) for c in line] for line in lines]


def _read_text(path: Path) -> list[list[str]]:
    """Return the cells of a csv or tsv file that does not end within a number that is used."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size} bytes, at most {LARGEST} are read: keep only the columns used")
    text = path.read_text(encoding="utf-8-sig")  # Excel writes a byte order mark
    separator = "\t" if path.suffix == ".tsv" else ","
    cells = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    if len(cells) > 1 and not text.endswith(("\n", "\r")):
        header, last = cells[0], cells[-1]
        if len(last) < len(header) or len(last) - 1 in find_columns(header).values():
            where = f"line {len(cells)} ends within {header[: len(last)][-1]!r}, {last[-1][:30]!r}"
            raise ValueError(f"{where}: a truncated file? If it is whole, end the line with a line break")
    _check_widths(cells)
    return cells


def _check_widths(lines: list[list[str]]) -> None:
    """Refuse a line without a cell for each column that is used, or with more cells than the header: it is shifted."""
    header = lines[0] if lines else []
    used = find_columns(header)
    for number, line in enumerate(lines, 1):
        if not any(cell.strip() for cell in line):
            continue
        if missing := [header[column] for column in used.values() if column >= len(line)]:
            raise ValueError(f"line {number} has no cell for {missing[0]!r}: truncated? A blank cell has its separator")
        if any(cell.strip() for cell in line[len(header) :]):
            raise ValueError(f"line {number} has {len(line)} cells, the header {len(header)}: a comma in a cell?")
