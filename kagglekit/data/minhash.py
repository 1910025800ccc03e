"""MinHash and locality-sensitive hashing: pairs of near-duplicates without comparing every text with every other.

A text is a set of shingles, runs of three words; the similarity of two texts is the share of shingles that both have
(Jaccard). The minimum of a set under a random hash function agrees for two texts with that probability (MinHash;
Broder, 1997); texts that agree in a band of several minima are candidates (Indyk and Motwani, 1998). Candidates are
compared exactly, so no pair is wrong and hardly any is missed.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from kagglekit.data.words import HAN, MARKS

SHINGLE = 3  # words
PERMUTATIONS = 128  # minima of a text
FOUND = 0.999  # least share of the pairs just at the threshold that are found
SHORT = 8  # words: in shorter texts punctuation marks count as words
SMALL = 16  # texts in a bucket up to which all pairs are compared at once
UNSPACED = rf"{HAN}\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Han, Kana, Thai, Lao, Burmese, Khmer
LETTER = rf"(?:[^\W{UNSPACED}]|[{MARKS}])"
TOKEN = re.compile(rf"[{UNSPACED}]|[a-z0-9_]+(?!{LETTER})|{LETTER}+|[^\w\s]")  # the second one only for speed
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)  # odd, so invertible


class Hashes(dict):
    """Word -> its 64-bit hash, the same in every process."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return self.setdefault(word, int.from_bytes(digest, "little"))


def find_words(text: str) -> list[str]:
    """The words of a text in lower case. A character of a script without spaces is a word, and so is an emoji or other
    symbol. Punctuation counts only in texts of fewer than 8 words: "Great!" is not "Great?"."""
    found = TOKEN.findall(text.casefold())
    words = [word for word in found if len(word) > 1 or unicodedata.category(word)[0] != "P"]
    return words if len(words) >= SHORT else found


def find_shingles(text: str, hashes: Hashes) -> np.ndarray:
    """The distinct runs of three words as 64-bit hashes, sorted; fewer words are one run, an empty text has none."""
    words = np.fromiter(map(hashes.__getitem__, find_words(text)), dtype=np.uint64)
    if len(words) < SHINGLE:
        return (words * MIX[: len(words)]).sum(keepdims=True)[: len(words)]
    return np.unique(sum(words[k : len(words) - SHINGLE + 1 + k] * MIX[k] for k in range(SHINGLE)))


def jaccard(a: str, b: str, hashes: Hashes | None = None) -> float:
    """The share of the shingles of two texts that both have: 1 for the same ones, 0 for none or for empty texts."""
    hashes = Hashes() if hashes is None else hashes
    first, second = (find_shingles(text, hashes) for text in (a, b))
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(len(first) + len(second) - both, 1)


def near_pairs(texts: Sequence[str], threshold: float, seed: int = 0) -> np.ndarray:
    """Row numbers (pairs, 2) of texts with a Jaccard similarity of `threshold` or more: enough pairs to connect all
    that belong together, not every pair of a large set of copies.

    100,000 texts of 60 words take 10 to 20 seconds on one core. Thousands of texts from one template that are just not
    similar enough take longer, as each is compared with each (10,000: half a minute).
    Raises ModuleNotFoundError without datasketch.
    """
    hashes = Hashes()
    buckets = {bucket.tobytes(): bucket for bucket in _buckets(sign_texts(texts, seed, hashes), threshold)}
    buckets = list(buckets.values())  # each once: copies share nearly every band
    rows = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *buckets]))
    sets = _incidence([find_shingles(texts[row], hashes) for row in rows])
    buckets = [np.searchsorted(rows, bucket) for bucket in buckets]
    small = [bucket for bucket in buckets if len(bucket) <= SMALL]
    near = [_near_in_small(sets, small, threshold)]
    near += [_near_in_large(sets, bucket, threshold) for bucket in buckets if len(bucket) > SMALL]
    return rows[np.concatenate(near)]


def sign_texts(texts: Sequence[str], seed: int, hashes: Hashes) -> np.ndarray:
    """The MinHash signatures, uint32 (n, 128); of a text without words all are the largest number."""
    try:
        from datasketch import MinHash
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "near-duplicates need a package that is not installed: pip install datasketch, or look for identical texts "
            "only (near_duplicates=0)"
        ) from None
    ready = ((find_shingles(text, hashes) >> np.uint64(32)).tolist() for text in texts)  # already hashed: 32 bits of it
    signed = MinHash.generator(ready, num_perm=PERMUTATIONS, seed=seed, hashfunc=int, scheme="affine32")
    return np.array([minhash.hashvalues for minhash in signed], dtype=np.uint32).reshape(-1, PERMUTATIONS)


def band_size(threshold: float) -> int:
    """The minima in a band: as many as possible while 999 of 1000 pairs at the threshold agree in some band."""
    sizes = np.arange(1, PERMUTATIONS + 1)
    found = 1 - (1 - threshold**sizes) ** (PERMUTATIONS // sizes)
    return int(sizes[found >= FOUND].max(initial=1))


def _buckets(signatures: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Rows that agree in a band, two or more, in ascending order."""
    signed = np.flatnonzero((signatures != np.iinfo(np.uint32).max).any(axis=1))
    size = band_size(threshold)
    for start in range(0, PERMUTATIONS - size + 1, size):
        band = np.ascontiguousarray(signatures[signed, start : start + size])
        keys = band.view(np.dtype((np.void, band.dtype.itemsize * size))).ravel()
        order = np.argsort(keys, kind="stable")
        ends = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        for first, last in pairwise([0, *ends.tolist(), len(order)]):
            if last - first > 1:
                yield signed[order[first:last]]


def _incidence(sets: Sequence[np.ndarray]) -> csr_matrix:
    """Which row has which shingle: float32 (rows, different shingles), 0 or 1."""
    starts = np.cumsum([0, *map(len, sets)])
    different, columns = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *sets]), return_inverse=True)
    return csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(sets), max(len(different), 1)))


def _near_in_small(sets: csr_matrix, buckets: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """The near pairs among all pairs of small buckets."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for size in {len(bucket) for bucket in buckets}:
        alike = np.stack([bucket for bucket in buckets if len(bucket) == size])  # (buckets, size)
        pairs += [alike[:, [i, j]] for i in range(size) for j in range(i + 1, size)]
    pairs = np.unique(np.concatenate(pairs), axis=0)
    blocks = [pairs[start : start + 10_000] for start in range(0, len(pairs), 10_000)]
    fits = [_jaccards(sets, sets[b[:, 0]].multiply(sets[b[:, 1]]).sum(axis=1), *b.T) >= threshold for b in blocks]
    return pairs[np.concatenate([np.empty(0, dtype=bool), *fits])]


def _near_in_large(sets: csr_matrix, bucket: np.ndarray, threshold: float) -> np.ndarray:
    """Near pairs that connect a large bucket: each row is compared with those that are not connected yet, so that many
    copies of one text are done at once."""
    pairs, rest, queue = [np.empty((0, 2), dtype=np.int64)], bucket, []
    while len(rest):
        if not queue:
            queue, rest = [rest[0]], rest[1:]
        row = queue.pop()
        near = _jaccards(sets, (sets[rest] @ sets[[row]].T).toarray(), rest, row) >= threshold
        queue += rest[near].tolist()
        pairs.append(np.column_stack([np.full(near.sum(), row), rest[near]]))
        rest = rest[~near]
    return np.concatenate(pairs)


def _jaccards(sets: csr_matrix, both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sizes, both = np.diff(sets.indptr), np.asarray(both).ravel()
    return both / (sizes[first] + sizes[second] - both)
