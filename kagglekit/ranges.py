"""Knobs and the values they may have."""


def check_range(name: str, value, fits: bool, rule: str) -> None:
    """Raise ValueError that names a parameter, what it got and the rule, unless it `fits`."""
    if not fits:
        raise ValueError(f"{name}={value!r} is out of range: it must be {rule}")
