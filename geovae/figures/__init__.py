"""Pictures: image grids as arrays, and matplotlib figures; nothing here writes a file."""
