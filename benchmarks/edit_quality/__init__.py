"""How good edits are where the true edit is known: tasks, methods, tables. ``python -m benchmarks.edit_quality``."""
