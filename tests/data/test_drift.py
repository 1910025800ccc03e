import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kagglekit.data.drift import Drift, adversarial_validation, bootstrap_auc


def texts(n, seed, extra="", share=0.0):
    random = np.random.default_rng(seed)
    rows = [" ".join(f"w{k}" for k in random.integers(0, 200, 15)) for _ in range(n)]
    return [f"{row} {extra}" if random.random() < share else row for row in rows]


def test_rows_of_one_source_cannot_be_told_apart():
    found = [adversarial_validation(texts(150, seed), texts(80, seed + 100)) for seed in range(10)]
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 9
    assert abs(np.mean([one.auc for one in found]) - 0.5) < 0.03
    assert "cannot tell" in next(one for one in found if one.low <= 0.5).verdict
    assert "so few rows" in Drift(0.55, 0.4, 0.7, None, None, None).verdict


def test_a_word_of_test_is_named_and_train_rows_with_it_look_like_test():
    train = pd.DataFrame({"id": [f"r{k}" for k in range(200)], "text": texts(200, 0, "Breaking", 0.05)})
    found = adversarial_validation(train["text"], texts(100, 1, "breaking", 0.9))
    assert found.low > 0.7 and found.low <= found.auc <= found.high <= 1
    assert found.words.loc[0, ["word", "speaks_for"]].tolist() == ["breaking", "test"]
    assert found.words["in_test"][0] > 0.8 and found.words["in_train"][0] < 0.1
    assert set(found.words["speaks_for"]) == {"train", "test"} and found.words["weight"].is_monotonic_decreasing
    assert "Train and test are very different" in found.verdict
    top = found.most_like_test(train, n=4)
    assert top["text"].str.contains("Breaking").mean() >= 0.75 and top["probability"].is_monotonic_decreasing
    assert (train.set_index("id")["text"][top["id"]].to_numpy() == top["text"].to_numpy()).all()
    with pytest.raises(ValueError, match="same rows"):
        found.most_like_test(train[:9])


def test_copies_do_not_make_test_known_when_they_stay_in_one_fold():
    train, test = texts(50, 0), texts(50, 1)
    groups = np.array([*np.repeat(range(50), 4), *np.repeat(range(50, 100), 4)])
    rows = [list(np.repeat(part, 4)) for part in (train, test)]
    assert adversarial_validation(*rows).auc > 0.95
    alone = adversarial_validation(*rows, groups)
    assert alone.low <= 0.5 <= alone.high


def test_auc_without_folds_is_that_of_scikit_learn_also_with_ties():
    random = np.random.default_rng(0)
    labels, probs = random.random(300) < 0.3, random.integers(0, 9, 300) / 9
    draws = bootstrap_auc(labels, probs, np.zeros(300, dtype=int), np.arange(300))
    assert np.isclose(draws[0], roc_auc_score(labels, probs)) and len(draws) == 501
    assert 0.02 < draws[1:].std() < 0.06
    whole = bootstrap_auc(labels, probs, np.zeros(300, dtype=int), np.arange(300) // 100)
    assert len(np.unique(whole.round(9))) <= 10 + 1  # of three groups there are ten draws


def test_auc_does_not_compare_rows_of_different_folds():
    labels, folds = np.tile([False, True], 50), np.arange(100) % 10 // 5
    probs = labels * 0.1 + folds
    assert bootstrap_auc(labels, probs, folds, np.arange(100))[0] == 1 > roc_auc_score(labels, probs)


def test_the_same_seed_finds_the_same_and_scripts_without_spaces_have_words():
    train, test = (
        ["今天 天气很好" + "啊" * (k % 7) for k in range(30)],
        ["明天 天气不好" + "吧" * (k % 7) for k in range(30)],
    )
    one, two = (adversarial_validation(train, test, n_splits=3, seed=4) for _ in range(2))
    assert (one.auc, one.low, one.high) == (two.auc, two.low, two.high) and one.auc == 1
    assert set(one.words["word"][:2]) == {"吧", "啊"}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="test has 2 different texts or groups, too few for n_splits=5"):
        adversarial_validation(texts(20, 0), texts(2, 1))
    with pytest.raises(ValueError, match="n_splits"):
        adversarial_validation(texts(20, 0), texts(20, 1), n_splits=1)
    with pytest.raises(ValueError, match="groups has 3 rows"):
        adversarial_validation(texts(20, 0), texts(20, 1), np.arange(3))


@pytest.mark.parametrize("texts", [lambda k: f"a{k}", lambda k: " " * k])
def test_texts_that_share_no_word_have_nothing_to_compare(texts):
    assert adversarial_validation([texts(k) for k in range(9)], [texts(k) for k in range(20, 29)]) is None
