"""Tables that benchmarks write into their page, and the command line of those that fill a folder first."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("README.md")


def write_table(text: str, page: Path, marks: tuple[str, str]) -> None:
    """Replace what stands between the marks of a page. Raises ValueError for a page without them."""
    before, mark, rest = page.read_text().partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not mark or not last:
        raise ValueError(f"{page} has no {marks[0].strip()} and {marks[1]}")
    page.write_text(f"{before}{mark}{text}\n{last}{after}")


def measure_or_table(
    description: str,
    name: str,
    measure: Callable[[argparse.Namespace], None],
    table: Callable[[argparse.Namespace], str],
    arguments: list[str] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """`measure FOLDER` fills a folder; `table FOLDER` prints its table, and with --write puts it between the marks of
    that name. description: of the module; more: further options, as `add_argument` takes them."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("what", choices=["measure", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    for option, how in (more or {}).items():
        parser.add_argument(option, **how)
    options = parser.parse_args(arguments)
    if options.what == "measure":
        measure(options)
        return
    print(found := table(options))
    if options.write:
        write_table(found, PAGE, (f"<!-- {name} -->\n", f"<!-- end of {name} -->"))
