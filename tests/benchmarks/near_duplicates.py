"""How long it takes to find near-duplicates, and whether they are found: texts with planted copies.

`python -m tests.benchmarks.near_duplicates` from the root of the repository, with 100,000 texts of 60 words that are
as frequent as those of a language (Zipf). A tenth of the texts are copies of another one with one word changed. It
prints seconds, the most memory it held, and the copies that were found, and ends with exit code 1 when it took longer
than `--budget`.
"""

import argparse
import resource
import sys
import time

import numpy as np

from kagglekit.data.duplicates import near_duplicate_groups
from kagglekit.data.minhash import find_words, jaccard

VOCABULARY = 50_000


def make_texts(rows: int, words: int, seed: int) -> tuple[list[str], np.ndarray]:
    """The texts, and the row that each is a copy of: its own for nine of ten."""
    random = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    drawn = random.choice(VOCABULARY, size=(rows, words), p=frequency / frequency.sum())
    origin = np.arange(rows)
    originals, copies = np.split(random.permutation(rows), [rows - rows // 10])
    origin[copies] = random.choice(originals, len(copies), replace=False)
    drawn[copies] = drawn[origin[copies]]
    drawn[copies, random.integers(0, words, len(copies))] = VOCABULARY  # a word of its own
    return [" ".join(f"word{number}" for number in text) for text in drawn.tolist()], origin


def main() -> None:
    command = "python -m tests.benchmarks.near_duplicates"
    parser = argparse.ArgumentParser(prog=command, description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="texts (100,000)")
    parser.add_argument("--words", type=int, default=60, help="of a text (60)")
    parser.add_argument("--threshold", type=float, default=0.8, help="share of three-word runs in common (0.8)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds, at most (60)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts, origin = make_texts(options.rows, options.words, options.seed)
    start = time.perf_counter()
    groups = near_duplicate_groups(texts, options.threshold, options.seed)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    copies = np.flatnonzero(origin != np.arange(len(texts)))
    near = [row for row in copies if jaccard(texts[row], texts[origin[row]]) >= options.threshold]
    found = sum(groups[row] == groups[origin[row]] for row in near)
    joined, planted = len(texts) - len(np.unique(groups)), len(copies)
    print(
        f"{len(texts):,} texts of {len(find_words(texts[0]))} words: {seconds:.1f} s, {memory:.1f} GiB with the texts"
    )
    print(f"{found:,} of {len(near):,} copies at or above the threshold found; {joined:,} joined, {planted:,} planted")
    print(f"{seconds / options.budget:.2f} of the budget of {options.budget:g} s")
    sys.exit(seconds > options.budget)


if __name__ == "__main__":
    main()
