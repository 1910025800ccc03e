"""What learning from the examples of a hidden test brings: a made-up competition of rules, on real texts.

Nine rules, such as "No news about sports", of three samples; six are in train, and the three of test are new. Each row
has two texts that break its rule and two that do not, in columns. Every rule is hidden once, so that a seed is three
competitions. `python -m tests.benchmarks.learning measure FOLDER` trains MiniLM in each and lets it learn in each way,
by the notebooks; what is in FOLDER is not done again. `table FOLDER` compares with the models as they were trained, on
the held-back labels; `--write` puts the table into tests/benchmarks/README.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kagglekit.files import read_json, replacing, write_json
from kagglekit.gains.effect import measure_gain
from kagglekit.running.notebook import run_notebook
from kagglekit.samples import write_sample
from kagglekit.scoring.grouped import LabelsBy
from tests.benchmarks.page import measure_or_table
from tests.benchmarks.trick_gain import write_cell

RULES = {  # what is forbidden -> sample, and the label of the texts that break the rule
    "No news about business": ("bbc", "business"),
    "No angry or sad posts": ("tweets", "negative"),
    "No complaints about drugs": ("drugs", "1"),
    "No news about entertainment": ("bbc", "entertainment"),
    "No news about sports": ("bbc", "sports"),
    "No happy posts": ("tweets", "positive"),
    "No news about politics": ("bbc", "politics"),
    "No news about technology": ("bbc", "tech"),
    "No praise of drugs": ("drugs", "3"),
}
HIDDEN = 3  # rules of test; the others are those of train
ROWS, POOL, WORDS = (40, 50), 24, 40  # of each rule in train and in test; examples of each class; words of a text
EXAMPLES = {sign: [f"{sign}_example_{number}" for number in (1, 2)] for sign in ("positive", "negative")}
BASE = {"max_length": 80, "learning_rate": 1.6e-4}
METRIC = "roc_auc_by:rule"
FROZEN = "as trained"
WAYS = {
    FROZEN: {},
    "examples, 1 epoch": {"support": EXAMPLES, "epochs": 1.0},
    "examples": {"support": EXAMPLES},
    "examples and sure predictions, 1 epoch": {"support": EXAMPLES, "pseudo": 0.9, "epochs": 1.0},
}


def write_rules(folder: Path, split: int) -> None:
    """Write the files of a competition into `folder`/SPLIT, whose test has the rules of that split, and its answers."""
    place, names = folder / "data" / str(split), list(RULES)
    if (place / "answers.csv").is_file():
        return
    hidden, found = names[HIDDEN * split : HIDDEN * (split + 1)], {"train": [], "test": []}
    for number, name in enumerate(names):
        sample, broken = RULES[name]
        table = pd.read_csv(write_sample(sample, folder / "data" / sample) / "train.csv", dtype=str)
        random, what = np.random.default_rng(number), "test" if name in hidden else "train"
        label = {"bbc": "Category", "tweets": "sentiment", "drugs": "rating"}[sample]
        text = {"bbc": "Text", "tweets": "text", "drugs": "review"}[sample]
        texts = table[text].str.split().str[:WORDS].str.join(" ").drop_duplicates()
        count, kinds = ROWS[what == "test"] // 2, {}
        for sign, among in (("positive", table[label] == broken), ("negative", table[label] != broken)):
            kinds[sign] = random.permutation(texts[among.loc[texts.index]])[: count + POOL]
        for sign, each in kinds.items():
            for body in each[POOL:]:
                drawn = {
                    column: one
                    for other, columns in EXAMPLES.items()
                    for column, one in zip(columns, random.choice(kinds[other][:POOL], 2, replace=False), strict=True)
                }
                found[what].append({"body": body, "rule": name, **drawn, "violation": int(sign == "positive")})
    for what, rows in found.items():
        table = pd.DataFrame(rows).sample(frac=1.0, random_state=0, ignore_index=True)
        table.insert(0, "id", [f"{what}{row}" for row in range(len(table))])
        files = {what: table.drop(columns=["violation"] * (what == "test"))}
        if what == "test":
            files |= {"sample_submission": table[["id"]].assign(violation=0.5), "answers": table[["id", "violation"]]}
        for name, one in files.items():
            place.mkdir(parents=True, exist_ok=True)
            with replacing(place / f"{name}.csv") as part:
                one.to_csv(part, index=False)


def measure(folder: Path, seeds: int, splits: int, ways: list[str]) -> None:
    """Do what is not in `folder` yet: SEED/SPLIT is a work folder, in which WAY.npy has the predictions of test and
    WAY.json what the replay at home found."""
    for seed, split in ((seed, split) for seed in range(seeds) for split in range(splits)):
        write_rules(folder, split)
        work, data = folder / str(seed) / str(split), folder / "data" / str(split)
        if all((work / f"{way}.npy").is_file() for way in ways):
            continue
        known = {"work": str(work), "run": "base"}
        shown = {"data": str(data), "text": ["body", "rule"], "group": "rule", "metric": METRIC, "n_folds": 3}
        run_notebook("1_eda", {"work": str(work), **shown})
        run_notebook("3_train", {**known, **BASE, "seed": seed})
        for way in (way for way in ways if not (work / f"{way}.npy").is_file()):
            learn = {**WAYS[way], "force": True} if WAYS[way] else {}
            run_notebook("5_submit", {**known, "predict": True, "learn": learn})
            if learn:
                write_json(work / f"{way}.json", read_json(work / "base" / "learn.json")["found"])
            found = pd.read_csv(work / "submission.csv")["violation"].to_numpy()
            np.save(work / f"{way}.npy", np.stack([1 - found, found], axis=1))


def table(folder: Path) -> str:
    """A row for each way: its score on the held-back labels, the gain over the models as they were trained, with
    an interval over rows and seeds, the lowest and highest of all competitions, and what the replays at home found."""
    seeds = sorted(int(place.name) for place in folder.iterdir() if place.name.isdigit())
    splits = sorted(int(place.name) for place in (folder / "data").iterdir() if place.name.isdigit())
    tables = [folder / "data" / str(split) for split in splits]
    rows = pd.concat([pd.read_csv(place / "test.csv").merge(pd.read_csv(place / "answers.csv")) for place in tables])
    labels, fold = LabelsBy(rows["violation"], rows["rule"]), np.repeat(splits, len(rows) // len(splits))
    lines = ["| way | ROC AUC | gain on test | lowest to highest | gain at home | said to help | seeds |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")

    def read(way: str, seed: int) -> dict[int, np.ndarray]:
        files = {split: folder / str(seed) / str(split) / f"{way}.npy" for split in splits}
        there = all(file.is_file() and file.stat().st_size for file in files.values())
        return {split: np.load(file) for split, file in files.items()} if there else {}

    frozen = {seed: read(FROZEN, seed) for seed in seeds}
    for way in WAYS:
        made = {seed: found for seed in seeds if (found := read(way, seed))}
        if not made:
            continue
        sides = [{split: {seed: one[seed][split] for seed in made} for split in splits} for one in (frozen, made)]
        gain = measure_gain(METRIC, labels, fold, *sides)
        if way == FROZEN:
            lines.append(f"| {way} | {gain.scores[1]:.3f} | | | | | {len(made)} |")
            continue
        each = [
            measure_gain(METRIC, labels, fold, *({split: {seed: side[split][seed]}} for side in sides)).better_by
            for split in splits
            for seed in made
        ]
        home = [read_json(folder / str(seed) / str(split) / f"{way}.json") for seed in made for split in splits]
        found, helps = [one["gain"] for one in home], sum(one["verdict"] == "helps" for one in home)
        lines.append(
            f"| {way} | {gain.scores[1]:.3f} | {write_cell(gain)} | {min(each):+.2f} to {max(each):+.2f} "
            f"| {np.mean(found):+.3f} ({min(found):+.2f} to {max(found):+.2f}) | {helps} of {len(home)} | {len(made)} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    more = {
        "--splits": {"type": int, "default": 3},
        "--ways": {"nargs": "+", "default": list(WAYS), "choices": WAYS, "help": "to measure"},
    }
    measure_or_table(
        __doc__,
        "learning",
        lambda options: measure(options.folder, options.seeds, options.splits, options.ways),
        lambda options: table(options.folder),
        arguments,
        more,
    )


if __name__ == "__main__":
    main()
