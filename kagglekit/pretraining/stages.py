"""A stage of pretraining: text in, a backbone out, from which the next stage or 3_train starts. OBJECTIVES has its
objectives by name."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import set_seed

from kagglekit.competition.text_columns import is_empty
from kagglekit.device import choose_device, choose_precision, keep_memory, share_cores
from kagglekit.files import check_space, read_json, remove, replacing, write_json
from kagglekit.files.arrays import seal
from kagglekit.model.backbones import check_max_length, load_config
from kagglekit.pretraining import image_text, rtd, simcse
from kagglekit.pretraining.masking import Masking, make_masking
from kagglekit.pretraining.mlm import prepare_mlm
from kagglekit.pretraining.objective import Objective, Prepared, Setup
from kagglekit.pretraining.probe import OVERALL, KeepCandidates, Probe
from kagglekit.pretraining.sentence_pairs import prepare_pairs
from kagglekit.pretraining.simcse import LabelledTexts
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.runs.tracking import report_callbacks
from kagglekit.time_budget import UNLIMITED, TimeBudget
from kagglekit.training.callbacks import SaveEvery, ShowProgress, StopInTime, remove_checkpoints
from kagglekit.training.learning_rates import adamw, parameter_groups, suggest_learning_rate
from kagglekit.training.trainer import Trainer, history, training_arguments

OBJECTIVES = {
    "mlm": Objective(prepare_mlm),
    "mlm_sop": Objective(partial(prepare_pairs, wrong="swapped"), {"weight": 1.0}),
    "mlm_nsp": Objective(partial(prepare_pairs, wrong="other"), {"weight": 1.0}),
    "simcse": Objective(simcse.prepare_simcse, simcse.OPTIONS, hides_tokens=False),
    "simcse_supervised": Objective(
        simcse.prepare_simcse_supervised, simcse.OPTIONS, hides_tokens=False, needs_labels=True
    ),
    "rtd": Objective(rtd.prepare_rtd, rtd.OPTIONS),
    "itc_itm": Objective(image_text.prepare_image_text, image_text.OPTIONS, hides_tokens=False, needs_images=True),
}


def prepare(
    stage: Stage,
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    masking: Masking | None = None,
    labels: LabelledTexts | image_text.ImagePairs | None = None,
) -> Prepared:
    """The objective of a stage, ready for the training loop; see `Setup`. masking: None is the one of the stage.

    Raises ValueError for whatever does not fit the backbone or the text.
    """
    objective = OBJECTIVES[stage.objective]
    if objective.hides_tokens and masking is None:
        masking = make_masking(stage.masking, tokenizer, stage.mask_probability, stage.masking_options)
    options = objective.options | stage.objective_options
    return objective.prepare(Setup(stage, options, backbone, tokenizer, texts, held_out, masking, labels))


@dataclass
class Pretrained:
    """The results of a stage.

    before, after: figures on held-out text; after is that of `model`. tokens: read in one epoch. history: the loss by
    step. receipts: of the objective's tricks. probe: its scores by step, overall and without each fold. steps: overall
    or fold -> the step that goes on, that of `model` first. models: fold -> folder below that of the stage; empty where
    there is one for all.
    """

    before: dict[str, float]
    after: dict[str, float]
    tokens: int
    history: list[dict[str, float]]
    receipts: dict[str, dict[str, float]] = field(default_factory=dict)
    probe: list[dict[str, float]] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def losses(self) -> pd.DataFrame:
        """The loss by step."""
        return pd.DataFrame(self.history).assign(fold=0)

    def figures(self) -> pd.DataFrame:
        """The figures on held-out text, a row each."""
        return pd.DataFrame({"before": self.before, "after": self.after})

    def __str__(self) -> str:
        """The figures in a line: "perplexity 47,800 -> 1,280"."""
        changes = [(name, self.before.get(name, math.nan), after) for name, after in self.after.items()]
        return ", ".join(f"{name} {_short(before)} -> {_short(after)}" for name, before, after in changes)

    def scores(self) -> pd.DataFrame:
        """The scores of the probe, a row for each step that was probed, a column for each fold and `overall`."""
        return pd.DataFrame(self.probe).set_index("step")


def _short(figure: float) -> str:
    """Three digits: 47,800 or 0.123."""
    return f"{float(f'{figure:.3g}'):,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def pretrain(
    stage: Stage,
    backbone: str,
    tokenizer,
    texts: Sequence[str],
    folder: Path,
    *,
    masking: Masking | None = None,
    labels: LabelledTexts | image_text.ImagePairs | None = None,
    probe: Probe | None = None,
    folds: Sequence[int] = (),
    save_seconds: float = 60.0,
    budget: TimeBudget = UNLIMITED,
    report_to: str = "",
) -> Pretrained:
    """Train `backbone` on `texts` as `stage` says; the model and its tokenizer go to `folder/model`.

    backbone: a folder, of an earlier stage for instance, or a hub name. tokenizer: with the new tokens. Equal texts
    count once; a share of them is held out, for the figures before and after. masking, labels: see `Setup`. probe: the
    best of the steps that it scores goes on, see `KeepCandidates`; for a fold of `folds` (none: all that the probe
    knows) with another best step than overall, that model goes to `folder/stepN/model`. A single fold has the model of
    its own best step. A run that was stopped goes on from its last checkpoint; a finished one, with
    `folder/pretraining.json` written last, is read back. When `budget` is over, it stops with a checkpoint and
    OutOfTime. Of several processes, the first one writes. report_to: see `report_callbacks`.
    Raises ValueError for a stage that does not fit the backbone or the text, before anything is trained.
    """
    file, place = folder / "pretraining.json", folder / "candidates"
    if file.is_file():
        return Pretrained(**read_json(file))
    check_max_length(backbone, stage.max_length)
    keep_memory()
    share_cores()
    set_seed(stage.seed)
    prepared = prepare(stage, backbone, tokenizer, *split_corpus(texts, stage.held_out, stage.seed), masking, labels)
    model = prepared.model.to(choose_device())
    folds = [] if probe is None else list(folds) or probe.folds
    candidates = KeepCandidates(probe, model, place, folds) if probe else None
    kept = len(folds) + 1 if probe else 0  # candidates, each of which may be saved again at the end
    copies = max(8 + kept, 4 + 2 * kept)  # before: two checkpoints, each the model and twice as much of Adam's
    check_space(folder, copies * 4 * sum(p.numel() for p in model.parameters()))
    before = prepared.measure()
    arguments = _arguments(stage, folder / "checkpoints", len(prepared.examples))
    watching = [SaveEvery(save_seconds), ShowProgress(stage.objective), *report_callbacks(report_to, arguments, folder)]
    watching += [StopInTime(budget, stage.objective)]
    trainer = Trainer(
        model,
        arguments,
        prepared.examples,
        prepared.loss,
        adamw(parameter_groups(model, stage.learning_rate or suggest_learning_rate(model.backbone))),
        prepared.tricks,
        callbacks=[candidates, *watching] if candidates else watching,
    )
    receipts = trainer.fit()
    trainer.accelerator.wait_for_everyone()
    first, steps, models = OVERALL, {OVERALL: trainer.state.global_step}, {}
    if candidates:
        first = OVERALL if len(folds) != 1 else str(folds[0])  # chooses `folder/model`
        steps = {name: candidates.best(name) for name in (first, *map(str, folds))}
    for fold in map(str, folds):
        models[fold] = "model" if steps[fold] == steps[first] else f"step{steps[fold]}/model"
    for name, step in {models[fold]: steps[fold] for fold in models if models[fold] != "model"}.items():
        candidates.put_back(step)
        _save(prepared, tokenizer, backbone, folder / name, trainer)
    if candidates:
        candidates.put_back(steps[first])
    _save(prepared, tokenizer, backbone, folder / "model", trainer)
    after, tokens = prepared.measure(), int(prepared.examples.tokens.lengths.sum())
    log, probed = history(trainer.state.log_history), candidates.scores if candidates else []
    result = Pretrained(before, after, tokens, log, receipts, probed, steps, models)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        remove_checkpoints(folder / "checkpoints")
        remove(place)
        write_json(file, asdict(result))
    return result


def split_corpus(texts: Sequence[str], held_out: float, seed: int) -> tuple[list[str], list[str]]:
    """The different texts to train on, and a share `held_out` of them, at least one, to measure with.

    Texts of nothing but white space are left out. Raises ValueError for fewer than two texts.
    """
    unique = np.array(sorted({text for text in texts if not is_empty(text)}), dtype=object)
    if len(unique) < 2:
        raise ValueError(
            f"pretraining needs at least two different texts, one to train on and one to measure with, and was given "
            f"{len(unique)}: give more, or cut plain text into lines (text_split)"
        )
    unique = unique[np.random.default_rng(seed).permutation(len(unique))].tolist()
    kept = min(max(1, round(held_out * len(unique))), len(unique) - 1)
    return unique[kept:], unique[:kept]


def _arguments(stage: Stage, folder: Path, rows: int):
    steps = stage.steps or math.ceil(math.ceil(rows / stage.batch_size) * stage.epochs)
    args = training_arguments(
        folder,
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        precision=choose_precision(),
        seed=stage.seed,
        log_every=max(1, steps // 40),
    )
    if stage.steps:
        args.max_steps = stage.steps  # in place of epochs
    return args


def _save(prepared: Prepared, tokenizer, backbone: str, folder: Path, trainer: Trainer) -> None:
    """The model as it is now, with the dropouts of `backbone`: those of this stage say nothing to the next."""
    if not trainer.args.should_save:
        return
    with replacing(folder) as part:
        part.mkdir()
        prepared.save(part)
        tokenizer.save_pretrained(part)
        config, theirs = load_config(str(part)), load_config(backbone).to_dict()
        for name in [name for name in config.to_dict() if "drop" in name and name in theirs]:
            setattr(config, name, theirs[name])
        config.save_pretrained(part)
        seal(part)
