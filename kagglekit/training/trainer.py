"""The training loop: that of transformers, opened at three places for tricks, with checkpoints that are whole."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
import transformers
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, load_model, save_file, save_model
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from kagglekit.data.batches import Examples
from kagglekit.decoders.halving import Halving
from kagglekit.decoders.lora import stands_apart
from kagglekit.decoders.lora_base import load_trained, trained_state
from kagglekit.device import choose_device, not_a_number, padding_known
from kagglekit.files import name_training
from kagglekit.model.row_gradients import clip_norm
from kagglekit.training.callbacks import Checkpoints, check_groups, going_on, last_checkpoint
from kagglekit.training.learning_rates import group_rates, make_schedule
from kagglekit.tricks.trick import Trick

PADDED = "padded"  # of a batch: whether it has padding, as the CPU sees it


class Trainer(transformers.Trainer):
    """`transformers.Trainer` with batches of equal token counts, and tricks.

    loss: f(logits, labels) -> scalar, a batch mean. tricks: the first is the outermost; `[FGM(), RDrop()]` attacks the
    R-Drop loss. evaluation: f(model) -> dict of figures, called every `args.eval_steps` steps.

    Several processes: start a script that builds one and calls `fit` with `torchrun --nproc-per-node 2 script.py` or
    `accelerate launch`. Each process trains on its share of the rows of every batch, with the result of one process to
    rounding, except for draws row by row, such as dropout. Each evaluates all rows; the first one decides and writes.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        examples: Examples,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        tricks: Sequence[Trick] = (),
        evaluation: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ):
        super().__init__(
            model,
            args,
            train_dataset=examples,
            eval_dataset=examples if evaluation else None,  # else transformers does not evaluate
            optimizers=(optimizer, None),
            callbacks=[Checkpoints(self), *tricks, *callbacks],  # first: it restores the tricks
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # losses are batch means: accumulation divides them
        self.loss, self.tricks, self.evaluation = loss, list(tricks), evaluation
        self.losses_, self.logged_ = torch.zeros(()), 0  # the sum in this process since that step
        self.halving = Halving()
        self.rates_ = group_rates(optimizer)  # of a resumed training those that it began with
        self.precisions_ = ["fp16" if args.fp16 else "bf16" if args.bf16 else "fp32"]  # and those that it had before
        self.rows = getattr(model, "row_gradients", None)
        if self.rows is not None and self.args.device.type == "cpu" and self.args.world_size == 1:
            self.accelerator.clip_grad_norm_ = lambda parameters, most: clip_norm(model, most)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the epoch of the global step, so that a resumed run sees those that it would have seen.

        The sampler gives each process its share; accelerate, which would deal out whole batches, only moves them.
        """

        def begin_epoch() -> int:
            steps = -(-len(batches) // self.args.gradient_accumulation_steps)
            self.train_dataset.epoch = self.state.global_step // steps
            return self.train_dataset.epoch

        batches = self.train_dataset.sampler(
            self.train_dataset.tokens.lengths,
            self.args.train_batch_size,
            self.args.seed,
            epoch=begin_epoch,
            process=self.args.process_index,
            processes=self.args.world_size,
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=_with_padding,  # examples come as whole batches
            generator=torch.Generator(),  # of its own: iterating leaves the global one alone
            pin_memory=self.args.dataloader_pin_memory,
        )
        placing = {"device": self.args.device, "put_on_device": True, "non_blocking": self.accelerator.non_blocking}
        return prepare_data_loader(loader, num_processes=1, process_index=0, **placing)

    def create_scheduler(self, num_training_steps, optimizer=None):
        """The schedule of the arguments, which may be one that transformers lacks."""
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            name, warmup = self.args.lr_scheduler_type, self.args.get_warmup_steps(num_training_steps)
            options = self.args.lr_scheduler_kwargs
            self.lr_scheduler = make_schedule(optimizer, name, num_training_steps, warmup, **options)
        return self.lr_scheduler

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The first seam: the loss of a batch, with the tricks around it."""

        def compute(inputs):
            inputs = dict(inputs)
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            return self.loss(outputs["logits"], labels), outputs

        for trick in self._started("compute_loss"):
            compute = partial(trick.compute_loss, compute, self.model)
        loss, outputs = compute(inputs)
        if self.args.world_size > 1:  # the mean over all rows, not over processes
            rows = torch.full((), float(len(inputs["attention_mask"])), device=self.args.device)  # a copy would wait
            loss = loss * (rows / self.accelerator.reduce(rows, "mean"))
        if self.halving.share != 1.0:
            loss = loss * self.halving.share
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The second seam: forward and backward of a batch, with the tricks around it."""
        plain = super().training_step
        if self.args.world_size > 1:
            model.require_backward_grad_sync = True  # of DDP: tricks see the gradients of all processes

        def step(inputs):
            return plain(model, dict(inputs), num_items_in_batch)

        for trick in self._started("training_step"):
            step = partial(trick.training_step, step, self.model)
        inputs = dict(inputs)
        with padding_known(self.args.device, inputs.pop(PADDED, True)):
            if self.args.world_size > 1:  # the others would wait for a process that begins again
                loss = step(inputs)
            else:
                loss = self.halving.run(inputs, step, self.model, self.state.global_step)
        self.losses_ = self.losses_ + loss
        return loss

    def log(self, logs, *args, **kwargs):
        """Log figures; the loss is the mean over all steps since the last logged one, also after a resumption. Raises
        FloatingPointError for a loss that is no number."""
        if "loss" in logs:
            logs["loss"] = self.sum_losses().mean().item() / (self.state.global_step - self.logged_)
            if not math.isfinite(logs["loss"]):
                name, where = name_training(Path(self.args.output_dir).parent), f"at step {self.state.global_step}"
                raise not_a_number(f"the loss of {name} is {logs['loss']} {where}", self.precisions_[-1])
            self.losses_, self.logged_ = torch.zeros(()), self.state.global_step
        super().log(logs, *args, **kwargs)

    def sum_losses(self) -> torch.Tensor:
        """The sum of the losses since the last logged step, (processes,)."""
        return self.accelerator.gather(self.losses_.reshape(1).to(self.args.device))

    def evaluating(self) -> ExitStack:
        """The third seam: a context in which the model has the weights to evaluate and to save.

        Tricks that choose among evaluated weights are entered last, and so have the last word.
        """
        with ExitStack() as stack:
            for trick in sorted(self.tricks, key=lambda trick: trick.chooses):
                stack.enter_context(trick.evaluating(self.model))
            return stack.pop_all()

    def _started(self, seam: str) -> list[Trick]:
        """The tricks that change a seam on the next step, the innermost first."""
        ours = (trick for trick in reversed(self.tricks) if getattr(type(trick), seam) is not getattr(Trick, seam))
        return [trick for trick in ours if trick.started(self.state)]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """The figures of `evaluation`, logged. `on_evaluate` is called with the evaluated weights in the model."""
        with self.evaluating():
            (figures,) = broadcast_object_list([self.evaluation(self.model)])  # the same in all processes
            figures = {f"eval_{name}": value for name, value in figures.items()}
            self.log(figures)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def fit(self) -> dict[str, dict[str, float]]:
        """Train to the end, from the last complete checkpoint if there is one, and return the receipts of the tricks.

        The weights to save are in the model only inside `evaluating()`. Raises RuntimeError when a trick never acted.
        """
        last = last_checkpoint(Path(self.args.output_dir))
        self.train(resume_from_checkpoint=last and str(last))
        if self.rows is not None:
            self.rows.free()
        receipts = {type(trick).__name__: trick.receipt(self.model) for trick in self.tricks}
        for name, receipt in receipts.items():
            if not receipt["steps"]:
                raise RuntimeError(
                    f"{name} never acted in {self.state.max_steps} steps: let it start earlier, or leave it out"
                )
        return receipts

    def save_model(self, output_dir=None, **kwargs):
        """Save the weights alone, without those of a backbone that it stands on; a shared tensor is saved once."""
        if self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            file = str(Path(output_dir) / "model.safetensors")
            if not stands_apart(self.model):
                save_model(self.model, file)
            else:
                save_file({k: x.contiguous() for k, x in trained_state(self.model, self.model).items()}, file)

    def _load_from_checkpoint(self, checkpoint, model=None):
        file = Path(checkpoint) / "model.safetensors"
        with going_on(Path(checkpoint)):
            if not stands_apart(self.model):
                load_model(self.model, str(file))
            else:
                load_trained(self.model, self.model, load_file(file))
            check_groups(Path(checkpoint), self.optimizer)


def _with_padding(batch: dict[str, torch.Tensor]) -> dict:
    return {**batch, PADDED: not batch["attention_mask"].all()}


class Arguments(TrainingArguments):
    """One GPU a process: with several, transformers would use DataParallel, which is slower."""

    @property
    def n_gpu(self):
        return min(super().n_gpu, 1)


def training_arguments(
    folder: Path,
    *,
    epochs: float,
    batch_size: int,
    precision: str,
    seed: int,
    schedule: str = "linear",
    warmup: float = 0.1,
    cycles: int = 1,
    cycle_growth: int = 1,
    accumulation: int = 1,
    max_grad_norm: float = 1.0,
    log_every: int = 10,
    evaluate_every: int | None = None,
    higher_is_better: bool = True,
) -> TrainingArguments:
    """Arguments for `Trainer`.

    folder: for checkpoints. epochs: may be a fraction. batch_size: mean rows of a batch, of all processes together.
    warmup: share of the steps. schedule, cycles, cycle_growth: as for `make_schedule`. max_grad_norm: longer gradients
    are scaled down to it; 0: never. log_every, evaluate_every: steps. higher_is_better: of the evaluation's score.
    Between logged steps nothing waits for the GPU, and nothing asks the network.
    """
    on_gpu = choose_device().type == "cuda"
    args = Arguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        lr_scheduler_kwargs={"cycles": cycles, "cycle_growth": cycle_growth},
        warmup_steps=warmup,
        max_grad_norm=max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=choose_device().type == "cpu",
        seed=seed,
        logging_steps=log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it reads the loss back from the GPU in every step
        eval_strategy="steps" if evaluate_every else "no",
        eval_steps=evaluate_every,
        greater_is_better=higher_is_better,
        save_strategy="no",  # SaveEvery decides when
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},  # a batch is copied while the one before it is computed
    )
    args.lr_scheduler_type = schedule  # set here because transformers lacks one of them
    return args


def history(log: list[dict], end: str = "") -> list[dict[str, float]]:
    """One row a logged step, without figures that depend on the clock. end: of the names of evaluated figures."""
    names = {name: name for name in ("loss", "grad_norm", "learning_rate")}
    names |= {f"eval_score{end}": "score", f"eval_loss{end}": "valid_loss"}
    rows: dict[int, dict] = {}
    for entry in log:
        figures = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if figures:
            rows.setdefault(entry["step"], {"step": entry["step"], "epoch": entry["epoch"]}).update(figures)
    return [rows[step] for step in sorted(rows)]
