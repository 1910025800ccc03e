"""What images beside a text bring, and what image-text pretraining learns: a made-up competition, over seeds.

A post is a text that sounds glad or sad and a picture in warm or cold colours; its class is both, so that a text alone
is right in half of the rows at most. Other pictures, with captions of their colours and shapes, are for `itc_itm`.
`python -m tests.benchmarks.images measure FOLDER` goes through the notebooks once a seed; what is in FOLDER is not done
again. `table FOLDER` compares on the held-back labels; `--write` puts the table into tests/benchmarks/README.md.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from kagglekit.files import read_json
from kagglekit.gains.effect import measure_gain
from kagglekit.running.notebook import run_notebook
from tests.benchmarks.page import measure_or_table
from tests.benchmarks.trick_gain import write_cell

WARM, COLD = ("red", "orange", "yellow", "pink"), ("blue", "green", "purple", "gray")
FORMS = {"circle": "ellipse", "square": "rectangle"}
CAPTIONS = [(*both, form) for both in itertools.permutations(WARM + COLD, 2) for form in FORMS]  # on, ground, form
GLAD = (
    "what a lovely day at the lake",
    "we laughed the whole evening",
    "best cake that I ever had",
    "so proud of you all",
)
SAD = (
    "what a dreary day at the office",
    "we argued the whole evening",
    "worst soup that I ever had",
    "so tired of it all",
)
PAIRS, TRAIN, TEST, SIDE = 1200, 200, 400, 32  # pictures with captions; posts; pixels of a side
CLASSES = ("glad, warm", "glad, cold", "sad, warm", "sad, cold")
TEXT, PRETRAINED, IMAGES = "text", "text, pretrained", "text and image"
WAYS = {TEXT: {}, PRETRAINED: {"start": "pics"}, IMAGES: {"start": "pics", "features": {"images": "photo"}}}
STAGE = {"epochs": 6, "learning_rate": 5e-4, "batch_size": 32, "max_length": 16, "held_out": 0.15}


def draw(on: str, ground: str, form: str, random: np.random.Generator) -> Image.Image:
    """A form of one colour somewhere on a ground of another, with noise."""
    picture, size = Image.new("RGB", (SIDE, SIDE), ground), int(random.integers(12, 20))
    x, y = map(int, random.integers(1, SIDE - size, 2))
    getattr(ImageDraw.Draw(picture), FORMS[form])([x, y, x + size, y + size], fill=on)
    noise = random.normal(0, 12, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def write_posts(place: Path) -> Path:
    """The files of a competition with its pictures, captions.csv with others, and answers.csv; returns the folder."""
    if (place / "answers.csv").is_file():
        return place
    random = np.random.default_rng(0)
    (place / "pictures").mkdir(parents=True, exist_ok=True)

    def photo(number: int, caption: tuple[str, str, str]) -> str:
        file = f"pictures/{number}.png"
        draw(*caption, random).save(place / file)
        return file

    drawn = [CAPTIONS[number] for number in random.integers(0, len(CAPTIONS), PAIRS)]
    texts = [f"a {on} {form} on {ground}" for on, ground, form in drawn]
    captions = pd.DataFrame({"text": texts, "image": [photo(*pair) for pair in enumerate(drawn)]})
    captions.to_csv(place / "captions.csv", index=False)
    rows = []
    for number in range(TRAIN + TEST):
        kind = int(random.integers(0, 4))
        on, ground = random.choice(WARM if kind % 2 == 0 else COLD, 2, replace=False)
        words = random.choice(GLAD if kind < 2 else SAD, 2, replace=False)
        caption = (str(on), str(ground), str(random.choice(list(FORMS))))
        text, file = f"{' and '.join(words)}, number {number}", photo(PAIRS + number, caption)
        rows.append({"id": f"p{number}", "text": text, "photo": file, "mood": CLASSES[kind]})
    table = pd.DataFrame(rows)
    table[:TRAIN].to_csv(place / "train.csv", index=False)
    table[TRAIN:].drop(columns="mood").to_csv(place / "test.csv", index=False)
    table[TRAIN:][["id"]].assign(mood=CLASSES[0]).to_csv(place / "sample_submission.csv", index=False)
    table[TRAIN:][["id", "mood"]].to_csv(place / "answers.csv", index=False)
    return place


def make_encoder(folder: Path) -> Path:
    """A random ViT of three layers and its processor."""
    if not (folder / "preprocessor_config.json").is_file():
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
        ViTModel(ViTConfig(**sizes, image_size=SIDE, patch_size=8)).save_pretrained(folder)
        ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def measure(folder: Path, seeds: int) -> None:
    """Go through the notebooks for each seed: SEED is a work folder with a run of each way."""
    encoder, data = make_encoder(folder / "vit"), write_posts(folder / "data")
    for seed in range(seeds):
        work = str(folder / str(seed))
        run_notebook("1_eda", {"data": str(data), "work": work, "text": "text", "n_folds": 2})
        options = {"image_encoder": str(encoder), "width": 64}
        pairs = {"objective": "itc_itm", "pairs": str(data / "captions.csv"), "objective_options": options}
        run_notebook("2_pretrain", {"work": work, "run": "pics", **pairs, **STAGE, "seed": seed})
        for number, knobs in enumerate(WAYS.values()):
            run_notebook("3_train", {"work": work, "run": f"way{number}", **knobs, "max_length": 24, "seed": seed})


def table(folder: Path) -> str:
    """A row for each way: accuracy on the held-back labels, and the gain over the text alone with an interval over rows
    and seeds. Then how often held-out captions and pictures found each other first, before and after pretraining."""
    seeds = [int(place.name) for place in sorted(folder.iterdir()) if (place / "way2/score.json").is_file()]
    moods = pd.read_csv(folder / "data" / "answers.csv")["mood"]
    labels, fold = np.array([sorted(CLASSES).index(mood) for mood in moods]), np.zeros(len(moods), dtype=int)

    def predicted(number: int, seed: int) -> np.ndarray:
        files = sorted((folder / str(seed) / f"way{number}").glob("fold*/test.parquet"))
        return np.mean([pd.read_parquet(file)[sorted(CLASSES)].to_numpy() for file in files], axis=0)

    sides = [{0: {seed: predicted(number, seed) for seed in seeds}} for number in range(len(WAYS))]
    lines = ["| way | accuracy | over the text alone | seeds |", "|---|---:|---:|---:|"]
    for name, side in zip(WAYS, sides, strict=True):
        gain = measure_gain("accuracy", labels, fold, sides[0], side)
        lines.append(f"| {name} | {gain.scores[1]:.3f} | {'' if name == TEXT else write_cell(gain)} | {len(seeds)} |")
    found = [read_json(folder / str(seed) / "pics" / "pretraining.json") for seed in seeds]
    lines += ["", "| recall at 1 | before | after |", "|---|---:|---:|"]
    for way, name in (("text_to_image_at_1", "of a text"), ("image_to_text_at_1", "of an image")):
        spans = [[one[time][way] for one in found] for time in ("before", "after")]
        lines.append(f"| {name} | {' | '.join(f'{min(span):.2f} to {max(span):.2f}' for span in spans)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    measure_or_table(
        __doc__,
        "images",
        lambda options: measure(options.folder, options.seeds),
        lambda options: table(options.folder),
        arguments,
    )


if __name__ == "__main__":
    main()
