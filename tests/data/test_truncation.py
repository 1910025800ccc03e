"""What is kept of a long text: the functions on one text's tokens, and on its characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglekit.data.truncation import (
    TRUNCATIONS,
    keep_halves,
    keep_head,
    keep_head_tail,
    keep_middle,
    keep_tail,
    key_parts,
)

BODIES = st.integers(0, 700).map(np.arange)
ROOMS = st.integers(1, 600)


@given(BODIES, ROOMS)
def test_head_and_tail_are_the_two_ends(body, room):
    assert keep_head(body, room).tolist() == body.tolist()[:room]
    assert keep_tail(body, room).tolist() == body.tolist()[-room:]


@given(BODIES, ROOMS, st.integers(0, 600))
def test_head_and_tail_together_are_the_head_and_what_is_left_for_the_tail(body, room, head):
    head = min(head, room)
    tail = room - head
    expected = body.tolist() if len(body) <= room else body.tolist()[:head] + body.tolist()[len(body) - tail :]
    assert keep_head_tail(body, room, head).tolist() == expected


@given(BODIES, ROOMS)
def test_the_middle_drops_as_much_before_as_after(body, room):
    kept = keep_middle(body, room).tolist()
    assert kept == list(range(kept[0], kept[-1] + 1)) if kept else len(body) == 0
    before, after = (kept[0], len(body) - 1 - kept[-1]) if kept else (0, 0)
    assert after - before in (0, 1)


@pytest.mark.parametrize("name", TRUNCATIONS)
@given(body=BODIES, room=ROOMS)
def test_every_cut_fills_the_room_keeps_the_order_and_leaves_short_texts_alone(name, body, room):
    kept = TRUNCATIONS[name](body, room)
    assert len(kept) == min(len(body), room)
    assert (np.diff(kept) > 0).all()
    if len(body) <= room:
        assert kept.tolist() == body.tolist()


@given(BODIES, ROOMS)
def test_no_head_is_the_tail_and_a_head_of_all_the_room_is_the_head(body, room):
    assert np.array_equal(keep_head_tail(body, room, 0), keep_tail(body, room))
    assert np.array_equal(keep_head_tail(body, room, room), keep_head(body, room))
    assert np.array_equal(keep_head_tail(body, room, room + 5), keep_head(body, room))


@pytest.mark.parametrize(("room", "head"), [(510, 128), (1022, 128), (254, 64), (62, 16), (4, 1), (1, 1)])
def test_the_head_is_128_tokens_as_in_the_paper_or_a_quarter(room, head):
    body = np.arange(2000)
    assert keep_head_tail(body, room).tolist() == [*range(head), *range(2000 - room + head, 2000)]


def test_halves_are_equal_or_the_first_is_one_longer():
    assert keep_halves(np.arange(10), 4).tolist() == [0, 1, 8, 9]
    assert keep_halves(np.arange(10), 5).tolist() == [0, 1, 2, 8, 9]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\n\nfirst\n\nsecond\n\nthird", "Title\n\nfirst\n\nthird"),  # as in the BBC's articles
        ("Title\nfirst\nsecond\nthird\n", "Title\nfirst\nthird"),  # no blank lines: lines
        (
            "Title\nfirst, on\ntwo lines\n\nsecond\n \t\nthird, on\ntwo",
            "Title\nfirst, on\ntwo lines\n \t\nthird, on\ntwo",
        ),
        ("Title\r\n\r\nfirst\r\n\r\nsecond\r\n\r\nthird", "Title\r\n\r\nfirst\r\n\r\nthird"),
        ("\n\n Title\n\n\n\nfirst\n\n\nsecond\n\n\nthird \n\n", "Title\n\n\n\nfirst\n\n\nthird"),
        ("标题\n\n第一段。\n\n第二段。\n\n第三段😀", "标题\n\n第一段。\n\n第三段😀"),
        ("a column\nand another column", "a column\nand another column"),
        ("Title\n\nfirst\n\nsecond", "Title\n\nfirst\n\nsecond"),
        ("One line. Two sentences. Three.", "One line. Two sentences. Three."),
        ("", ""),
        (" \n\n ", ""),
    ],
)
def test_key_parts_are_the_title_and_the_first_and_the_last_paragraph(text, expected):
    assert key_parts(text) == expected


@given(st.lists(st.text("ab 😀好\n\r\t", max_size=8), max_size=6).map("\n\n".join))
def test_key_parts_are_a_beginning_and_an_end_of_the_text(text):
    kept, text = key_parts(text), text.strip()
    first = next((n for n in range(len(kept)) if kept[n] != text[n]), len(kept))
    assert text.endswith(kept[first:])
    assert key_parts(kept) == kept


def test_a_megabyte_of_line_breaks_is_read_in_no_time():
    assert key_parts("a\nb\n" + "\n " * 500_000 + "c") == "a\nb\n" + "\n " * 500_000 + "c"
    assert len(key_parts("line\n" * 200_000)) == len("line\nline\nline")
