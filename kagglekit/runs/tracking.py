"""Trackers: losses and scores to TensorBoard, Weights & Biases, MLflow or Trackio, by the callbacks of transformers.

Each training is a run of its own there, named by its folder: bbc/base/fold0. What training does and saves is the same.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kagglekit.progress import say

if TYPE_CHECKING:  # whether a tracker is installed is checked before a kernel starts
    from transformers import TrainerCallback, TrainingArguments

TRACKERS = {  # name -> packages, one of which it needs; and where its runs are seen
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard --logdir {place}"),
    "wandb": (("wandb",), "project {project} of wandb.ai; with WANDB_MODE=offline in wandb/"),
    "mlflow": (("mlflow",), "mlflow ui, experiment {project}; MLFLOW_TRACKING_URI names the place"),
    "trackio": (("trackio",), "trackio show --project {project}"),
}


def check_tracker(name: str) -> None:
    """Raise ModuleNotFoundError, with what to install, for a tracker whose package is missing."""
    packages = TRACKERS[name][0] if name else ()
    if packages and not any(map(find_spec, packages)):
        raise ModuleNotFoundError(f"report_to={name!r} needs a package that is missing: pip install {packages[0]}")


def report_callbacks(name: str, arguments: TrainingArguments, folder: Path) -> list[TrainerCallback]:
    """The callbacks of a tracker for the training in `folder`; none for an empty name. Where the runs are seen is said
    once.

    The project is called like the work folder, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another. Files of
    TensorBoard lie in `folder`/tensorboard. Raises as `check_tracker` does.
    """
    if not name:
        return []
    check_tracker(name)
    from transformers import TrainerCallback
    from transformers.integrations import get_reporting_integration_callbacks

    place = next((one for one in (folder, *folder.parents) if (one / "params.json").is_file()), folder.parent)
    arguments.project = project = place.parent.name or "kagglekit"
    arguments.run_name = "/".join((project, place.name, *folder.relative_to(place).parts))
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.setdefault(variable, project)
    callback = get_reporting_integration_callbacks([name])[0]()
    if name == "tensorboard":
        callback.logging_dir = str(folder / "tensorboard")

    class End(TrainerCallback):
        """Ends the run of Weights & Biases with the training: the next fold would go on with it."""

        def on_train_end(self, args, state, control, **kwargs):
            import_module("wandb").finish()

    _tell(name, place, project)
    return [callback, End()] if name == "wandb" else [callback]


@cache
def _tell(name: str, place: Path, project: str) -> None:
    say(f"{name}: {TRACKERS[name][1].format(place=place, project=project)}")
