import hashlib
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from kagglekit.data import minhash
from kagglekit.data.minhash import Hashes, band_size, find_shingles, find_words, jaccard, near_pairs, sign_texts

needs_datasketch = pytest.mark.skipif(find_spec("datasketch") is None, reason="datasketch is not installed")


def random_texts(n, words=30, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(f"w{k}" for k in random.integers(0, 3000, words)) for _ in range(n)]


def change(text, n, seed):
    """The text with `n` words replaced, far from each other."""
    words = text.split()
    for place in np.linspace(1, len(words) - 2, n).astype(int):
        words[place] = f"other{seed}x{place}"
    return " ".join(words)


def test_words_leave_out_punctuation_of_long_texts_only():
    assert find_words("A, b; c? D e 'f' (g) h!") == list("abcdefgh")
    assert find_words("Great!") == ["great", "!"]
    assert find_words("") == [] and find_words(" \n") == []


def test_scripts_without_spaces_give_a_word_a_character():
    assert find_words("我喜欢 NLP 课程") == ["我", "喜", "欢", "nlp", "课", "程"]
    assert find_words("ทดสอบ") == list("ทดสอบ")
    assert find_words("हिन्दी में") == ["हिन्दी", "में"]
    assert find_words("ok 😀👍") == ["ok", "😀", "👍"]


def test_shingles_are_the_different_runs_of_three_words():
    assert len(find_shingles("a b c d e", Hashes())) == 3
    assert len(find_shingles("a b c a b c a b c", Hashes())) == 3  # abc, bca, cab
    assert [len(find_shingles(text, Hashes())) for text in ("", "a", "a b", "a b c")] == [0, 1, 1, 1]
    assert find_shingles("a b", Hashes()) != find_shingles("b a", Hashes())


def test_jaccard_equals_that_of_sets():
    a, b = random_texts(1)[0], change(random_texts(1)[0], 2, 0)
    sets = [set(zip(w, w[1:], w[2:], strict=False)) for w in (a.split(), b.split())]
    assert jaccard(a, b) == len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert jaccard(a, a) == 1 and jaccard(a, "") == 0 and jaccard("", "") == 0


def test_bands_find_nearly_every_pair_at_the_threshold():
    for threshold in (0.3, 0.5, 0.8, 0.95):
        size = band_size(threshold)
        missed = [(1 - threshold**k) ** (128 // k) for k in (size, size + 1)]
        assert missed[0] <= 0.001 < missed[1]


@needs_datasketch
def test_signatures_agree_as_often_as_texts_are_alike():
    texts = random_texts(40, words=80)
    copies = [change(text, 5, 1) for text in texts]
    signed = sign_texts([*texts, *copies], 3, Hashes()).astype(np.int64)
    alike = np.mean(signed[:40] == signed[40:])
    assert abs(alike - np.mean(list(map(jaccard, texts, copies)))) < 0.02
    assert (sign_texts([""], 0, Hashes()) == 2**32 - 1).all()


@needs_datasketch
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_pairs_are_those_of_comparing_each_with_each(threshold):
    texts = random_texts(60)
    texts += [change(text, k % 4 + 1, k) for k, text in enumerate(texts)]
    sets = [set(find_shingles(text, Hashes()).tolist()) for text in texts]
    pairs = [(i, j) for i in range(120) for j in range(i + 1, 120)]
    expected = {(i, j) for i, j in pairs if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= threshold}
    found = near_pairs(texts, threshold)
    assert {tuple(sorted(pair)) for pair in found.tolist()} == expected and len(expected) > 10


@needs_datasketch
def test_a_large_bucket_is_connected_as_comparing_each_with_each_does(monkeypatch):
    mould = random_texts(1, words=60)[0]
    texts = [change(mould, 1 + k % 6, k) for k in range(100)]

    def parts():
        pairs = near_pairs(texts, 0.7)
        return connected_components(coo_matrix((np.ones(len(pairs)), pairs.T), shape=(100, 100)), directed=False)

    monkeypatch.setattr(minhash, "SMALL", 2)
    large = parts()
    monkeypatch.setattr(minhash, "SMALL", 1000)
    small = parts()
    assert large[0] == small[0] and 1 < large[0] < 100 and (large[1] == small[1]).all()


@needs_datasketch
def test_signatures_and_pairs_are_the_same_in_every_process():
    texts = [f"the {k} quick brown foxes jumped over {k // 2} lazy dogs near the river bank today" for k in range(8)]
    signed = sign_texts(texts, 1, Hashes())
    assert (
        hashlib.sha256(signed.astype("<u4").tobytes()).hexdigest()[:16] == "6532d8fced2366ac"
    )  # whatever PYTHONHASHSEED is
    assert near_pairs(texts, 0.5, 1).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_without_datasketch_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install datasketch, or .*near_duplicates=0"):
        near_pairs(["a", "b"], 0.8)
