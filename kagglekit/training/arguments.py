"""The arguments of the loop: what transformers is told, in our defaults."""

from pathlib import Path

from transformers import TrainingArguments

from kagglekit.device import choose_device
from kagglekit.options import check_range
from kagglekit.training.optim import SCHEDULES


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
    """Arguments for `Trainer`; checkpoints go to `folder`.

    epochs: may be a fraction. batch_size: rows of a batch on average, of all processes together. warmup: share of the
    steps. schedule, cycles, cycle_growth: as in `make_schedule`. max_grad_norm: longer gradients are shortened to it, 0
    leaves them. log_every, evaluate_every: steps. higher_is_better: whether that is so of the score of the evaluation.
    Between logged steps nothing here waits for the GPU, and nothing asks the network.
    """
    check_range("schedule", schedule, schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
    check_range("cycles", cycles, cycles >= 1, "1 or more")
    check_range("cycle_growth", cycle_growth, cycle_growth >= 1, "1 or more")
    on_gpu = choose_device().type == "cuda"
    args = TrainingArguments(
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
        save_strategy="no",  # SaveEvery decides when, and Trainer keeps the newest that is whole
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},  # a batch is copied while the one before it is computed
    )
    args.lr_scheduler_type = schedule  # given afterwards: transformers does not know all of ours
    return args
