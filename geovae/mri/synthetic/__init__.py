"""Synthetic brains in the layout of OASIS-1, for tests and demonstrations: never for findings."""
