"""Texts of several columns: the tokens are those that the tokenizer gives two texts, and each column has its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.chunks import chunk_starts, make_chunks
from kagglekit.data.layout import chunk_columns, find_layout, share_room
from kagglekit.data.patterns import fill_pattern, make_pattern
from kagglekit.data.tokens import WHOLE, tokenize

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\n", *"abcdefgh"]
FAMILIES = {  # what a tokenizer puts around one text and around two
    "bert": ("[CLS] $A [SEP]", "[CLS] $A:0 [SEP]:0 $B:1 [SEP]:1"),
    "roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    "t5": ("$A [SEP]", "$A [SEP] $B [SEP]"),
    "llama": ("[CLS] $A", "[CLS] $A [CLS]:1 $B:1"),
    "xlnet": ("$A:0 [SEP]:0 [CLS]:2", "$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2"),
    "funnel": ("[CLS]:2 $A:0 [SEP]:0", "[CLS]:2 $A:0 [SEP]:0 $B:1 [SEP]:1"),
}


def make(family, **tokens):
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if family in FAMILIES:
        single, pair = FAMILIES[family]
        special = [("[CLS]", 2), ("[SEP]", 3)]
        core.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", **tokens)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


PAIRS = [("abc", "de"), ("ab", "cde"), ("", "abc"), ("abc", ""), ("", ""), ("abcdefgh", "hgfedcba"), ("a" * 9, "b")]


@pytest.mark.parametrize("max_length", [WHOLE, 12, 11, 7])
def test_two_columns_are_what_the_tokenizer_makes_of_two_texts(family, max_length):
    tokenizer = make(family)
    tokens = tokenize([SEPARATOR.join(pair) for pair in PAIRS], tokenizer, max_length)
    options = dict(truncation="longest_first", max_length=max_length, return_token_type_ids=True)
    for pair, ids, owners in zip(PAIRS, tokens, tokens.owners, strict=True):
        expected = tokenizer([pair], **options)  # a single pair with an empty second text would be read as one text
        assert ids.tolist() == expected["input_ids"][0], pair
        if family in ("bert", "xlnet", "funnel"):  # the others have no types
            assert owners.tolist() == expected["token_type_ids"][0], pair


def test_a_boundary_between_columns_is_read(family):
    one, two = tokenize([f"abc{SEPARATOR}de", f"ab{SEPARATOR}cde"], make(family), WHOLE)
    assert one.tolist() != two.tolist()


@pytest.mark.parametrize(
    ("tokens", "between"),
    [
        ({"sep_token": "[SEP]", "eos_token": "[CLS]"}, [3]),
        ({"eos_token": "[CLS]"}, [WORDS.index("\n")]),
    ],
)
def test_where_a_tokenizer_puts_nothing_between_two_texts_there_is_a_token_of_its_own(tokens, between):
    tokenizer = make("gpt2", **tokens)
    assert find_layout(tokenizer).between.tolist() == between
    (ids,) = tokenize([f"ab{SEPARATOR}c"], tokenizer, WHOLE)
    assert ids.tolist() == [WORDS.index("a"), WORDS.index("b"), *between, WORDS.index("c")]


def test_three_columns_have_a_separator_between_each_two(family):
    tokenizer = make(family)
    layout, (ids,) = find_layout(tokenizer), tokenize([SEPARATOR.join(["ab", "", "c"])], tokenizer, WHOLE)
    a, b, c = map(WORDS.index, "abc")
    between = layout.between.tolist()
    assert ids.tolist() == [*layout.first, a, b, *between, *between, c, *layout.last]


@given(rows=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=4))
def test_columns_that_were_joined_come_apart_again(rows):
    for name in FAMILIES:
        layout = find_layout(make(name))
        for sizes in rows:
            bodies = [np.arange(size) % 8 + 6 for size in sizes]
            if name == "llama" and len(sizes) > 1 and not sizes[-1]:
                continue  # nothing stands behind an empty last column
            apart = layout.split(*layout.join(bodies))
            assert [x.tolist() for x in apart] == [x.tolist() for x in bodies], (name, sizes)


@pytest.mark.parametrize(
    ("lengths", "room", "budget", "kept"),
    [
        ([3, 4], 10, (), [3, 4]),
        ([3, 40], 10, (), [3, 7]),
        ([40, 3], 10, (), [7, 3]),
        ([40, 40], 11, (), [5, 6]),
        ([41, 40], 11, (), [6, 5]),
        ([2, 30, 30], 11, (), [2, 4, 5]),
        ([40, 40], 12, (4, 8), [4, 8]),
        ([2, 40], 12, (4, 8), [2, 10]),  # what the first leaves goes to the second
        ([40, 6], 12, (4, 8), [6, 6]),
        ([40, 40], 20, (4, 8), [10, 10]),  # what is left over goes to the shortest
        ([40, 40], 20, (0, 15), [5, 15]),
        ([0, 0], 5, (), [0, 0]),
    ],
)
def test_the_longest_is_cut_first_but_none_below_its_budget(lengths, room, budget, kept):
    assert share_room(lengths, room, budget) == kept


@given(
    columns=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), min_size=1, max_size=4),
    room=st.integers(40, 90),
)
def test_the_room_is_used_up_and_never_exceeded(columns, room):
    lengths, budget = map(list, zip(*columns, strict=True))
    kept = share_room(lengths, room, budget)
    assert sum(kept) == min(sum(lengths), room)
    assert all(min(own, floor) <= k <= own for k, (own, floor) in zip(kept, columns, strict=True))


def test_a_budget_beyond_the_room_is_an_error():
    with pytest.raises(ValueError, match="budget=30 is out of range: it must be at most 20 in all"):
        share_room([40, 40], 20, [10, 20])


def letters(ids):
    return "".join(WORDS[token] for token in ids if token > 5)


def test_each_column_is_cut_by_its_own_rule_within_its_budget():
    text = SEPARATOR.join(["abcdefgh", "abcdefgh"])
    read = dict(cut=["head", "tail"], budget=[2, 5])
    (ids,) = tokenize([text], make("bert"), 10, **read)
    assert letters(ids) == "ab" + "defgh"
    (ids,) = tokenize([SEPARATOR.join(["a", "abcdefgh"])], make("bert"), 10, **read)
    assert letters(ids) == "a" + "cdefgh"
    with pytest.raises(ValueError, match="cut and budget are of 2 columns, and a text has 3"):
        tokenize([SEPARATOR.join("abc")], make("bert"), 10, **read)


def test_key_parts_are_those_of_each_column():
    body = "a\n\nb\n\ncc\n\nd"
    (ids,) = tokenize([SEPARATOR.join([body, "d" * 9])], make("bert"), 20, cut=["key_parts", "head"])
    assert letters(ids) == "abd" + "d" * 9


@given(sizes=st.lists(st.integers(0, 60), min_size=2, max_size=3), room=st.integers(8, 30))
def test_in_chunks_the_longest_column_goes_on_and_the_others_stand_in_each(sizes, room):
    bodies = [np.arange(size) + 100 * number for number, size in enumerate(sizes)]
    pieces = chunk_columns(bodies, room, chunk_starts)
    longest = int(np.argmax(sizes))
    assert np.concatenate([piece[longest] for piece in pieces]).tolist() == bodies[longest].tolist()
    for number, body in enumerate(bodies):
        if number != longest:
            assert all(piece[number].tolist() == pieces[0][number].tolist() for piece in pieces)
            assert pieces[0][number].tolist() == body[: len(pieces[0][number])].tolist()
    assert all(sum(map(len, piece)) <= room for piece in pieces)


def test_chunks_of_two_columns_are_pairs(tokenizer):
    whole = tokenize([SEPARATOR.join(["good", "the old film was very sad !"])], tokenizer, WHOLE)
    chunks = make_chunks(whole, tokenizer, 8, 1)
    good = tokenizer("good", add_special_tokens=False)["input_ids"]
    pieces = [ids.tolist() for ids in chunks.pieces]
    assert len(pieces) == 2 and all(ids[:3] == [2, *good, 3] and ids[-1] == 3 for ids in pieces)
    assert chunks.pad(0)["token_type_ids"][0].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 2


def test_a_pattern_around_two_columns_leaves_their_types(tokenizer):
    pattern = make_pattern("{mask} : {text} !", tokenizer)
    tokens = fill_pattern([SEPARATOR.join(["good film", "sad"])], tokenizer, pattern, 12)
    ids, owners = next(iter(tokens)), next(tokens.owners)
    assert tokenizer.decode(ids) == "[CLS] [MASK] [UNK] good film [SEP] sad ! [SEP]"
    assert owners.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_tokens_of_several_columns_are_cached_and_added(tokenizer, tmp_path):
    texts = [f"good{SEPARATOR}film", f"a sad{SEPARATOR}plot"]
    first, again = (tokenize(texts, tokenizer, 20, tmp_path) for _ in range(2))
    for one in (first, again, first[[0]] + first[[1]]):
        assert one.columns.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]
        assert one.flat.tolist() == first.flat.tolist()
    mixed = tokenize(["good"], tokenizer, 20) + first
    assert mixed.columns.tolist() == [0] * 3 + first.columns.tolist()
    batch = mixed.pad(0)
    assert batch["token_type_ids"][1].tolist() == [0, 0, 0, 1, 1, 0]
    assert set(tokenize(["good"], tokenizer, 20).pad(0)) == {"input_ids", "attention_mask"}
