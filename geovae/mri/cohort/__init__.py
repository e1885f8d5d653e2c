"""Preparing a cohort: find its volumes, join its table, process each, and write and read the prepared files."""
