"""What a look at a folder found, and how it is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing to mend.

    level: "error" stops a push, "warning" does not. key: in a JSON file, or "cell 3" of a notebook, from 1; or "".
    """

    level: Literal["error", "warning"]
    file: str
    key: str
    message: str

    def __str__(self):
        return ": ".join(filter(None, [self.level, self.file, self.key, self.message]))


def show(findings: Iterable[Finding]) -> str:
    """The findings one a line, errors first, and how many there are."""
    findings = sorted(findings, key=lambda finding: finding.level)  # stable: "error" comes before "warning"
    errors = sum(finding.level == "error" for finding in findings)
    count = f"{errors} error(s), {len(findings) - errors} warning(s)" if findings else "nothing to mend"
    return "\n".join([*map(str, findings), count])
