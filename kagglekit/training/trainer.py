"""The loop of transformers, opened at three places for tricks."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, load_model, save_file, save_model
from torch.utils.data import DataLoader
from transformers import PrinterCallback

from kagglekit.training.batches import EpochSampler, Examples
from kagglekit.training.trick import Trick

COMPLETE = "complete"  # a file in a checkpoint that was written to its end


class Trainer(transformers.Trainer):
    """`transformers.Trainer` with batches of equal token counts, and tricks.

    loss: f(logits, labels) -> scalar, a batch mean. tricks: the first is the outermost; `[FGM(), RDrop()]` attacks the
    R-Drop loss. evaluation: f(model) -> dict of figures, at the steps that `args.eval_steps` names.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: transformers.TrainingArguments,
        examples: Examples,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        tricks: Sequence[Trick] = (),
        evaluation: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        callbacks: Sequence[transformers.TrainerCallback] = (),
    ):
        args._n_gpu = min(args.n_gpu, 1)  # several GPUs in one process would be DataParallel: slower than one of them
        super().__init__(
            model,
            args,
            train_dataset=examples,
            eval_dataset=examples if evaluation else None,  # only so that transformers lets us evaluate
            optimizers=(optimizer, None),
            callbacks=[*tricks, *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # losses are batch means: accumulation divides them
        self.loss, self.tricks, self.evaluation = loss, list(tricks), evaluation

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the epoch that the global step lies in: a resumed run sees what the stopped one would have."""
        batches = EpochSampler(
            self.train_dataset.tokens.lengths,
            self.args.train_batch_size,
            self.args.seed,
            epoch=lambda: self.state.global_step // -(-len(batches) // self.args.gradient_accumulation_steps),
        )
        return self.accelerator.prepare(
            DataLoader(
                self.train_dataset,
                batch_sampler=batches,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # of its own: iterating leaves the global one alone
                pin_memory=self.args.dataloader_pin_memory,
            )
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The first seam: the loss of a batch, with the tricks around it."""

        def compute(inputs):
            inputs = dict(inputs)
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            return self.loss(outputs["logits"], labels), outputs

        for trick in self._started():
            compute = partial(trick.compute_loss, compute, self.model)
        loss, outputs = compute(inputs)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The second seam: forward and backward of a batch, with the tricks around it."""
        plain = super().training_step

        def step(inputs):
            return plain(model, dict(inputs), num_items_in_batch)

        for trick in self._started():
            step = partial(trick.training_step, step, self.model)
        return step(self._prepare_inputs(inputs))

    def evaluating(self) -> ExitStack:
        """The third seam: a context in which the model has the weights to evaluate and to save."""
        with ExitStack() as stack:
            for trick in self.tricks:
                stack.enter_context(trick.evaluating(self.model))
            return stack.pop_all()

    def _started(self) -> list[Trick]:
        return [trick for trick in reversed(self.tricks) if trick.started(self.state)]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """The figures of `evaluation`, logged."""
        with self.evaluating():
            figures = {f"eval_{name}": value for name, value in self.evaluation(self.model).items()}
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def fit(self) -> dict[str, dict[str, float]]:
        """Train to the end, from the last complete checkpoint if there is one, and return the receipts of the tricks.

        Raises RuntimeError when a trick never acted. Afterwards the model has the weights to save only inside
        `evaluating()`.
        """
        last = last_checkpoint(Path(self.args.output_dir))
        self.train(resume_from_checkpoint=last and str(last))
        receipts = {type(trick).__name__: trick.receipt(self.model) for trick in self.tricks}
        for name, receipt in receipts.items():
            if not receipt["steps"]:
                raise RuntimeError(
                    f"{name} never acted in {self.state.max_steps} steps: let it start earlier, or leave it out"
                )
        return receipts

    def _save(self, output_dir=None, state_dict=None):
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(Path(output_dir) / "model.safetensors"))

    def _load_from_checkpoint(self, checkpoint, model=None):
        load_model(self.model, str(Path(checkpoint) / "model.safetensors"), device=str(self.args.device))

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        for number, trick in enumerate(self.tricks):
            save_file(trick.state_dict(), folder / f"trick-{number}.safetensors")
        (folder / COMPLETE).touch()
        remove_checkpoints(folder.parent, keep=folder)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        for number, trick in enumerate(self.tricks if checkpoint else ()):
            trick.load_state_dict(load_file(Path(checkpoint) / f"trick-{number}.safetensors", str(self.args.device)))


def _as_it_is(batch):
    return batch


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`; those that were cut off do not count."""
    complete = [file.parent for file in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda checkpoint: int(checkpoint.name.split("-")[1]), default=None)


def remove_checkpoints(folder: Path, keep: Path | None = None) -> None:
    """Remove `folder`, or all its checkpoints but `keep`: first what says that one is complete, in case of a kill."""
    for checkpoint in set(folder.glob("checkpoint-*")) - {keep}:
        (checkpoint / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)


def history(log: list[dict]) -> list[dict[str, float]]:
    """One row a logged step, without anything that depends on the clock."""
    names = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "eval_score": "score"}
    rows: dict[int, dict] = {}
    for entry in log:
        figures = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if figures:
            rows.setdefault(entry["step"], {"step": entry["step"], "epoch": entry["epoch"]}).update(figures)
    return [rows[step] for step in sorted(rows)]
