"""How a result is made again: the commands in their order, versions, seeds, the data's hash, and all settings."""

import json
import shlex
from typing import Any

import pandas as pd

from kagglekit.reports.overview import Overview, RunRow
from kagglekit.reports.page import code, details, paragraph, table
from kagglekit.reports.run_settings import find_differences, write_value
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters

PLACES = ("work", "data")  # parameters that name folders


def show_way(view: Overview) -> list[str]:
    """The parts of the section of a report."""
    commands: list[str] = []
    with view.catching():
        commands = list_commands(view)
    parts = (
        [paragraph("The commands, in the order in which they ended."), code("\n".join(commands))] if commands else []
    )
    facts: dict[str, Any] = {}
    if (best := view.chosen) is not None:
        with view.catching():
            params = next((leaf.params for leaf in best.record.leaves() if leaf.params), {})
            facts |= params.get("versions", {})
            facts |= {"commit of kagglekit": params.get("commit"), "seed of the runs": _seeds(view)}
    for marker in view.markers.values():
        facts = {**marker.get("versions", {}), **facts}
    facts["seed of the folds"] = view.markers.get("1_eda", {}).get("parameters", {}).get("seed")
    facts["hash of the competition's files"] = view.task.get("fingerprint")
    known = pd.Series({name: str(value) for name, value in facts.items() if value is not None}, name="is", dtype=object)
    parts.append(table(known.rename_axis("what").to_frame(), "Versions, seeds, and the data"))
    for row in view.rows:
        with view.catching():
            if row.record.recipe:
                settings = {name: _plain(value) for name, value in row.record.recipe.items()}
                text = json.dumps(settings, indent=1, ensure_ascii=False)
                parts.append(details(f"All settings of {row.name}", code(text)))
    return parts


def _seeds(view: Overview) -> str:
    found = {row.name: row.record.recipe.get("seed") for row in view.rows if row.record.recipe}
    return ", ".join(f"{name} {seed}" for name, seed in found.items() if seed is not None)


def _plain(value: Any) -> Any:
    """A setting without the places of this machine."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return write_value(value) if isinstance(value, str) else value


def list_commands(view: Overview) -> list[str]:
    """The command lines of what was done; of a run without a marker (JupyterLab, another machine) from its record."""
    commands, done = [], set()
    for stem, marker in sorted(view.markers.items(), key=lambda item: item[1].get("finished_at", "")):
        with view.catching():
            notebook, values = stem.partition(".")[0], marker.get("parameters", {})
            defaults = {name: one.default for name, one in read_parameters(find_notebook(notebook)).items()}
            changed = {name: value for name, value in values.items() if value != defaults.get(name, value)}
            commands.append(_write(view, notebook, changed | {k: values[k] for k in ("run", "data") if k in values}))
            done.add(stem.partition(".")[2] if notebook != "5_submit" else "")
    rest = [_from_record(view, row) for row in view.rows if row.name not in done]
    if (run := view.submission.get("run")) and not any(stem.startswith("5_submit") for stem in view.markers):
        rest.append(("5_submit", {"run": run}))
    told = "  # from its record: it was not run in batch here"
    return [*commands, *(_write(view, *line) + told for line in sorted(rest, key=lambda line: line[0]))]


def _from_record(view: Overview, row: RunRow) -> tuple[str, dict[str, Any]]:
    """The notebook of a run, and what differs from its defaults."""
    if row.members:
        method = row.record.weights.get("plan", {}).get("method", "auto")
        return "4_ensemble", {"run": row.name, "runs": row.members, "method": method}
    notebook = "2_pretrain" if "objective" in row.record.recipe else "3_train"
    folds = {"folds": row.folds} if row.partial else {}
    return notebook, {"run": row.name, **find_differences(row.record.asked, {}), **folds}


def _write(view: Overview, notebook: str, values: dict[str, Any]) -> str:
    texts = {"work": f"runs/{view.work.name}"}
    texts |= {name: _plain(value) for name, value in values.items() if name != "work"}
    told = [f"{name}={v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for name, v in texts.items()]
    return " ".join(["python -m kagglekit.run", notebook, *map(shlex.quote, told)])
