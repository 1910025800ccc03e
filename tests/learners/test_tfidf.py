import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC

from kagglekit.learners.tfidf import Baseline, CalibratedSVM, choose_strength, find_features
from kagglekit.scoring.metrics import score


@pytest.fixture
def fold(task, tables, tmp_path):
    """fold(kind): the baseline on 160 rows, and what it predicts for the last 40 of them."""

    def make(kind, seed=0, **options):
        what = task(kind, **options)
        baseline = Baseline(what, *tables(what, rows=160))
        return baseline, baseline.fit(np.arange(120), np.arange(120, 160), tmp_path / "fold0", seed)

    return make


def test_it_learns(fold):
    baseline, fitted = fold("binary")
    assert score("roc_auc", baseline.labels[120:], fitted.oof) > 0.8
    baseline, fitted = fold("regression")
    truth = baseline.labels[120:]
    assert score("rmse", truth, fitted.oof) < 0.8 * truth.std()
    assert abs(fitted.oof.mean() - 100) < 10  # in the units of the target


def test_several_regressions_have_a_column_each(fold):
    baseline, fitted = fold("regression", labels=["x", "y"])
    assert baseline.labels.shape == (160, 2) and fitted.oof.shape == (40, 2)
    assert score("pearson", baseline.labels[120:, :1], fitted.oof[:, :1]) > 0.5


def test_a_class_that_the_training_rows_lack_has_probability_zero(fold, tmp_path):
    baseline, _ = fold("multiclass")
    rows = np.flatnonzero(baseline.labels != 1)
    fitted = baseline.fit(rows, np.flatnonzero(baseline.labels == 1), tmp_path, 0)
    assert (fitted.oof[:, 1] == 0).all() and np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("counts", [(5, 0, 0), (5, 1, 5), (4, 2, 2)])
def test_rare_and_single_classes_still_give_probabilities(fold, tmp_path, counts):
    baseline, _ = fold("multiclass")
    rows = np.concatenate([np.flatnonzero(baseline.labels == k)[:n] for k, n in enumerate(counts)])
    fitted = baseline.fit(rows, np.arange(10), tmp_path, 0)
    assert np.allclose(fitted.oof.sum(axis=1), 1, atol=1e-6)
    assert all((fitted.oof[:, k] == 0).all() for k, n in enumerate(counts) if n == 0)
    if 1 in counts:  # the others are learned all the same
        assert np.allclose(fitted.oof[:, counts.index(1)], 1 / sum(counts)) and fitted.oof[:, 0].std() > 0


def test_empty_texts_are_predicted_too(task, tables, tmp_path):
    what = task("multiclass")
    train, test = tables(what, rows=160)
    train.loc[[3, 130], "text"] = ""
    test["text"] = ""
    fitted = Baseline(what, train, test).fit(np.arange(120), np.arange(120, 160), tmp_path, 0)
    assert np.isfinite(fitted.oof).all() and len(np.unique(fitted.test, axis=0)) == 1


SIGNS = {  # what texts may be: for class 0 and class 1
    "words of one character": ("房 间 很 差", "房 间 很 好"),
    "segmented words": ("菜 慢 难 吃", "菜 好 喜 欢"),
    "emoji": ("\U0001f622\U0001f622", "\U0001f600"),
    "numbers": ("1 2 3 4", "5 6 7 8"),
    "punctuation": ("?!", "..."),
    "all alike": ("the same text", "the same text"),
    "nothing": ("", " "),
}


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("signs", SIGNS.values(), ids=SIGNS)
def test_it_never_falls_over_what_the_text_is(task, tables, tmp_path, kind, signs):
    what = task(kind)
    train, test = tables(what, rows=40)
    labels = np.arange(40) % 2
    train[what.labels[0]] = np.array(what.classes or ["0", "1"])[labels]
    train["text"], test["text"] = np.array(signs)[labels], signs[1]
    found = Baseline(what, train, test).fit(np.arange(30), np.arange(30, 40), tmp_path, 0).oof
    assert np.isfinite(found).all()
    if len(set(map(str.strip, signs))) > 1:
        assert (
            score("roc_auc", labels[30:], found) if kind == "binary" else score("r2", labels[30:, None], found)
        ) > 0.9


def test_words_of_one_character_count_where_most_are_such():
    texts = ["客 服 好", "客 服 差", "1 2"]
    words = TfidfVectorizer(ngram_range=(1, 2), max_df=0.5, token_pattern=r"(?u)\b\w+\b").fit(texts * 2)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4)).fit(texts)
    assert "好" in words.vocabulary_
    assert find_features(texts * 2, 2).shape[1] == len(words.vocabulary_) + len(letters.vocabulary_)


@pytest.mark.parametrize(
    ("worth", "tried"),
    [
        ({0.3: 1, 1.0: 2, 3.0: 2, 10.0: 1}, [0.3, 1.0, 3.0, 10.0]),
        ({0.3: 1, 1.0: 2, 3.0: 1}, [0.3, 1.0, 3.0]),
        ({0.3: 2, 1.0: 1, 0.1: 3, 0.03: 1}, [0.3, 1.0, 0.1, 0.03]),
        ({0.3: 2, 1.0: 1, 0.1: 1}, [0.3, 1.0, 0.1]),
    ],
)
def test_strengths_are_tried_until_they_are_worse(worth, tried):
    asked = []
    found = choose_strength(
        lambda strength: asked.append(strength) or worth[strength], (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    )
    assert asked == tried and found == max(worth, key=worth.get)


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("kind", ["regression", "multiclass", "multilabel"])
def test_very_few_rows_give_a_model_too(fold, tmp_path, kind, rows):
    baseline, _ = fold(kind)
    fitted = baseline.fit(np.arange(rows), np.arange(120, 160), tmp_path, 0)
    assert np.isfinite(fitted.oof).all() and len(fitted.oof) == 40
    if kind == "regression" and rows == 1:
        assert np.allclose(fitted.oof, baseline.labels[:1])


@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_are_those_of_the_usual_calibration_though_margins_are_computed_once(classes):
    random, inner = np.random.default_rng(classes), StratifiedKFold(3, shuffle=True, random_state=1)
    y = random.integers(classes, size=90) * 2
    x = random.random((90, 30)) * (random.random((90, 30)) < 0.3)
    x = csr_matrix(x + 0.4 * np.eye(30)[y])

    def worth(strength):
        return cross_val_score(LinearSVC(C=strength, tol=1e-2, random_state=5), x, y, cv=inner).mean()

    strengths = (0.03, 0.3, 3.0, 30.0)
    svm = LinearSVC(C=choose_strength(worth, strengths), tol=1e-2, random_state=5)
    usual = CalibratedClassifierCV(svm, cv=inner, ensemble=False).fit(x, y)
    ours = CalibratedSVM(5, inner, strengths).fit(x, y)
    assert ours.svm_.C == svm.C and ours.classes_.tolist() == usual.classes_.tolist()
    assert np.array_equal(ours.predict_proba(x), usual.predict_proba(x))
