"""Notebooks run in batch: their parameters, their kernel, whether they are done, folds in parallel."""

import sys

SLOW = "rfc3987_syntax"  # a second to import, for a check of addresses that no notebook has; jsonschema does without


def __getattr__(name: str):
    """`from kagglekit.running import nbformat` takes a tenth of the time of `import nbformat`."""
    if name != "nbformat":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    unknown = SLOW not in sys.modules
    if unknown:
        sys.modules[SLOW] = None
    try:
        import nbformat
    finally:
        if unknown:
            del sys.modules[SLOW]
    return nbformat
