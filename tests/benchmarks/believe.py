"""Is the number right? The cross-fitted estimate of an ensemble against its score on held-back rows.

`python -m tests.benchmarks.believe` from the root of the repository prints a table for the README: all samples, ten
splits each, six cheap models and a useless one (five folds each), and `4_ensemble`'s own choice among the ways to blend
them, with thresholds. A split draws rows to train on and others to test; near-duplicates stay on one side.

In-sample: chosen, fitted and scored on the same out-of-fold rows. The score on test: the mean over the five folds of
what each fold's models and ensemble have there, which is what is estimated; the mean of the five folds' predictions,
which is submitted, has a score of its own. The interval speaks of rows without number, and a test of m rows has its own
chance: "holds the test score" allows for both (standard error times the root of 1 + n/m).
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import norm
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.data.duplicates import near_duplicate_groups
from kagglekit.data.folds import assign_folds
from kagglekit.ensembling.crossfit import fit_by_fold
from kagglekit.ensembling.ensembler import StackInput
from kagglekit.ensembling.estimate import make_estimate
from kagglekit.ensembling.methods import BlendPlan
from kagglekit.samples import SAMPLES, read_answers, write_sample
from kagglekit.scoring.metrics import is_higher_better, score

MODELS = {
    "words, logistic": ("words", lambda: LogisticRegression(C=10, max_iter=200)),
    "characters, logistic": ("characters", lambda: LogisticRegression(C=10, max_iter=200)),
    "words, naive Bayes": ("words", lambda: MultinomialNB(alpha=0.1)),
    "characters, naive Bayes": ("characters", lambda: MultinomialNB(alpha=0.1)),
    "topics, neighbours": ("topics", lambda: KNeighborsClassifier(20, metric="cosine")),
    "topics, trees": ("topics", lambda: ExtraTreesClassifier(100, min_samples_leaf=3, random_state=0, n_jobs=1)),
    "the shares alone": ("topics", lambda: DummyClassifier(strategy="prior")),
}


@dataclass
class Pool:
    """All rows of a sample with their labels, those of its test too, and what the cheap models read."""

    metric: str
    kind: str
    labels: np.ndarray
    groups: np.ndarray
    features: dict[str, csr_matrix | np.ndarray]


def read_pool(name: str, rows: int) -> Pool:
    """The first `rows` rows of a sample. An ordinal sample is taken as classes with the metric QWK."""
    with TemporaryDirectory() as place:
        folder = write_sample(name, Path(place))
        kind = "multiclass" if SAMPLES[name].kind == "ordinal" else None
        metric = "qwk" if kind else None
        task, _ = infer(folder, kind=kind, metric=metric)
        train, test = read_train(task), read_test(task)
        answers = read_answers(folder)
        test = test.assign(**{task.labels[0]: answers.iloc[:, 1].to_numpy()})
    table = pd.concat([train, test], ignore_index=True)[:rows]
    texts = table["text"].tolist()
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w+\b").fit_transform(texts)
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=3).fit_transform(texts)
    topics = TruncatedSVD(60, random_state=0).fit_transform(characters)
    features = {"words": words, "characters": characters, "topics": topics}
    return Pool(task.metric, task.kind, encode_labels(task, table), near_duplicate_groups(texts), features)


def draw(pool: Pool, train: int, test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to learn from, and others to test on; near-duplicates on one side, the classes as they come."""
    order = np.random.default_rng(seed).permutation(pool.groups.max() + 1)[pool.groups]
    rows = np.argsort(order, kind="stable")
    cut = train
    while order[rows[cut]] == order[rows[cut - 1]]:
        cut += 1
    return rows[:cut], rows[cut : cut + test]


def predict(pool: Pool, ours: np.ndarray, test: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, dict]:
    """Out-of-fold predictions (models, rows, classes), and fold -> those of test (models, test rows, classes)."""
    classes = pool.labels.max() + 1
    oof, tests = np.zeros((len(MODELS), len(ours), classes)), {}
    for fold in np.unique(folds):
        learned, held_out = ours[folds != fold], ours[folds == fold]
        tests[int(fold)] = np.zeros((len(MODELS), len(test), classes))
        for number, (reads, make) in enumerate(MODELS.values()):
            features = pool.features[reads]
            model = make().fit(features[learned], pool.labels[learned])
            oof[number, folds == fold] = model.predict_proba(features[held_out])
            tests[int(fold)][number] = model.predict_proba(features[test])
    return oof, tests


def judge(pool: Pool, train: int, test: int, seed: int) -> dict:
    """One split: the estimate, and what came true."""
    ours, others = draw(pool, train, test, seed)
    labels, groups = pool.labels[ours], pool.groups[ours]
    folds = assign_folds(labels, groups, seed=seed)
    oof, tests = predict(pool, ours, others, folds)
    plan = BlendPlan(pool.kind, pool.metric, thresholds="auto")
    inputs = StackInput(oof, pool.kind, pool.metric, groups)
    estimate = make_estimate(plan.ensembler(), inputs, labels, folds, groups)
    fitted = fit_by_fold(plan.ensembler(), inputs, labels, folds)
    predicted = [fitted[k].predict(StackInput(tests[k], pool.kind, pool.metric)) for k in fitted]
    truth = pool.labels[others]
    true = float(np.mean([score(pool.metric, truth, one) for one in predicted]))
    submitted = float(score(pool.metric, truth, np.mean(predicted, axis=0)))
    reach = norm.ppf(0.975) * estimate.standard_error * np.sqrt(1 + len(ours) / len(others))
    return {
        "in_sample": estimate.in_sample,
        "estimate": estimate.cross_fitted,
        "test": true,
        "submitted": submitted,
        "holds": abs(true - estimate.cross_fitted) <= reach,
        "holds_submitted": abs(submitted - estimate.cross_fitted) <= reach,
        "holds_in_sample": abs(true - estimate.in_sample) <= reach,
        "reach": reach,
        "chosen": [getattr(one, "chosen_", "") for one in fitted.values()],
    }


def report(name: str, pool: Pool, splits: list[dict]) -> str:
    """A line of the README's table; an optimism below 0 is a number that was too careful."""
    table, sign = pd.DataFrame(splits), 1 if is_higher_better(pool.metric) else -1
    means = [f"{table[column].mean():.4f}" for column in ("in_sample", "estimate", "test", "submitted")]
    errors = sign * (table["estimate"] - table["test"])
    optimism = f"{errors.mean():+.4f} ± {errors.std(ddof=1) / np.sqrt(len(errors)):.4f}"
    reach = f"± {table['reach'].mean():.3f}"
    holds = [f"{table[column].sum()} of {len(table)}" for column in ("holds", "holds_submitted", "holds_in_sample")]
    return f"| {name} | {pool.metric} | {' | '.join([*means, optimism, reach, *holds])} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.believe", description=__doc__)
    parser.add_argument("samples", nargs="*", default=list(SAMPLES))
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--rows", type=int, default=3000, help="of a sample, at most; two thirds to train on")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    columns = ["sample", "metric", "in-sample", "estimate", "test", "submitted", "estimate - test", "interval"]
    columns += ["holds test", "holds submitted", "in-sample holds test"]
    print(f"| {' | '.join(columns)} |\n|---|---|{'---:|' * (len(columns) - 2)}")
    for name in options.samples:
        start, pool = time.monotonic(), read_pool(name, options.rows)
        train = 2 * len(pool.labels) // 3
        splits = [judge(pool, train, len(pool.labels) - train - 20, seed) for seed in range(options.splits)]
        print(report(name, pool, splits), f"<!-- {time.monotonic() - start:.0f} s -->", flush=True)
        print("chosen:", pd.Series([one for split in splits for one in split["chosen"]]).value_counts().to_dict())
