"""Each cleaner changes what it is for and nothing else, and cleaning twice is cleaning once."""

import sys
import unicodedata

import emoji
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kagglekit.data.clean import ASCII, CLEANERS, EMOJI, check_cleaners, clean_table, clean_texts
from kagglekit.show.texts import count_changes, show_cleaning

PLAIN = "Plain text, of 2 lines:\nit's 1,000 - isn't it? (a < b & c > d) 你好"
HARD = "soooo !!! #GoodDay #话题的# @bob a@b.com http://t.co/x). www.a.com &amp;lt;b&gt; <br/> <b> <user> <!-- x --> "
HARD += "<script> </script> 👍🏽 👨‍👩‍👧 1️⃣ ©️ \u200d \ufe0f 漢字 後面 。。。 【 ” Ａ # @ &# III cafÃ© "
HARD += "â€™ ﬁ é क् \ud800 中"
PIECES = [*HARD.split(" "), "\r\n", "\u200b", "\x00", "  ", "\t", "\n"]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=12).map("".join)
DONE = [  # cleaner, before, after
    ("mojibake", "cafÃ© donâ€™t", "café don’t"),
    ("mojibake", "café “quotes” ’ok’ 你好", "café “quotes” ’ok’ 你好"),
    ("html", "<p>Hi &amp; <b>bye</b> <user> a < b <3</p>x<br/>y<!-- z -->", "\nHi & bye <user> a < b <3\nx\ny"),
    ("html", "&amp;amp;lt;i&gt;one&#183;two&nbsp;3 AT&T", "one·two\xa03 AT&T"),
    ("html", "<script>if (a<b) c()</script>text<style>p {}</style>", "text"),
    ("urls", "see https://t.co/aB1, (www.foo.com/x?y=1). no.www", "see http, (http). no.www"),
    ("urls", "看http://t.cn/abc你好", "看http你好"),
    ("drop_urls", "see https://t.co/aB1!", "see !"),
    ("mentions", "@bob: a@b.com, ＠张三 hi @ 5", "@user: a@b.com, @user hi @ 5"),
    ("drop_mentions", "@bob: a@b.com", ": a@b.com"),
    ("hashtags", "#GoodDay2024 #1 C# &#39; #NBAFinals ##x_y", "Good Day 2024 #1 C# &#39; NBA Finals x y"),
    ("hashtags", "#话题 你好#很好，我喜欢 #苹果", "话题 你好很好，我喜欢 苹果"),
    (
        "emoji_en",
        "so👍🏽👨‍👩‍👧 🇩🇪 ok ☺ ❤️",
        "so thumbs up medium skin tone family man woman girl Germany ok smiling face red heart",
    ),
    ("emoji_en", "new 🫩, no name 👨‍🚀‍🐶!", "new face with bags under eyes , no name man astronaut dog face !"),
    ("emoji_en", "© 2024 ™ ▪ one → two, but ©️", "© 2024 ™ ▪ one → two, but copyright"),
    ("emoji_zh", "很好👍🏽！", "很好 拇指向上 中等肤色 ！"),
    ("emoji_zh", "🫩 1️⃣", "有眼袋 按键 1"),
    ("simplified", "漢字轉換，裡面的頭髮", "汉字转换，里面的头发"),
    ("simplified", "看著，接著，著名", "看著，接著，著名"),
    ("simplified_tw", "看著，接著，沿著；著名的名著，顯著", "看着，接着，沿着；著名的名著，显著"),
    ("simplified_tw", "漢字轉換，裡面的頭髮，軟體", "汉字转换，里面的头发，软体"),
    ("nfkc", "Ａ１ ﬁne x² …", "A1 fine x2 ..."),
    ("punctuation", "【你好】，“世界”。「x」、《y》～（z）！……——Ａ", '[你好],"世界"."x","y"~(z)!......--Ａ'),
    ("repeats", "Soooo coooool!!!! 1000 III WWIII 哈哈哈哈 ..... ...", "Soo cool!! 1000 III WWIII 哈哈 ... ..."),
    ("control", "a\u200bb\r\nc\x00d\u202ee\ufeff\tf", "ab\ncde\tf"),
    ("control", "👨‍👩‍👧 क्‍ष نمی‌خواهم", "👨‍👩‍👧 क्‍ष نمی‌خواهم"),
    ("spaces", "  a \u3000 b\t\n\n\n\n c\r\nd ", "a b\n\nc\nd"),
]


@pytest.mark.parametrize("name, before, after", DONE)
def test_a_cleaner_does_what_its_name_says(name, before, after):
    assert CLEANERS[name](before) == after


@pytest.mark.parametrize("name", CLEANERS)
def test_plain_text_stays_as_it_is(name):
    assert CLEANERS[name](PLAIN) == PLAIN and CLEANERS[name]("") == ""


@settings(max_examples=150, deadline=None)
@given(TEXTS)
@example("#1#中#1#")
@example("# #中# #")
@example("#a# #b中#")
def test_cleaning_twice_is_cleaning_once(text):
    for name, clean in CLEANERS.items():
        once = clean(text)
        assert clean(once) == once, name


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_what_a_cleaner_is_for_is_gone_after_it(text):
    assert not any(run * 3 in CLEANERS["repeats"](text) for run in "ao!。哈")
    assert "  " not in CLEANERS["spaces"](text) and CLEANERS["spaces"](text) == CLEANERS["spaces"](text).strip()
    assert not set("\0\r\u200b\ud800") & set(CLEANERS["control"](text))
    assert not set("。【】“”，！") & set(CLEANERS["punctuation"](text))
    assert unicodedata.is_normalized("NFKC", CLEANERS["nfkc"](text))


def test_every_emoji_that_the_package_knows_has_words_in_both_languages():
    qualified = [one for one, data in emoji.EMOJI_DATA.items() if data["status"] == emoji.STATUS["fully_qualified"]]
    assert len(qualified) > 3600 and all(map(EMOJI.search, qualified))
    for name in ("emoji_en", "emoji_zh"):
        words = CLEANERS[name](" | ".join(qualified))
        assert not emoji.emoji_count(words) - words.count("©")
        assert CLEANERS[name](words) == words and words.count(" | ") == len(qualified) - 1


def test_punctuation_becomes_ascii_and_letters_stay():
    assert all(new.isascii() and not new.isalnum() for new in ASCII.values())
    assert not any(chr(old).isalnum() or chr(old).isascii() for old in ASCII)


def test_a_text_of_100_000_characters_is_cleaned_in_a_second():
    for piece in ("a very long text ", "<!-- <b ", "&amp;amp;lt;", "#中 #", "@a", "http://", "<script>", "今天😂"):
        text = piece * (100_000 // len(piece))
        assert len(clean_texts([text], list(CLEANERS))) == 1


def test_cleaners_work_in_the_order_of_the_list():
    assert clean_texts(["www.a.com"], ["urls", "repeats"]) == ["http"]
    assert clean_texts(["www.a.com"], ["repeats", "urls"]) == ["ww.a.com"]
    assert clean_texts(iter([" a "]), []) == [" a "]


def test_a_table_is_cleaned_in_its_text_alone():
    table = pd.DataFrame({"id": [" 1 "], "text": [" a  b "]})
    assert clean_table(table, ["spaces"]).to_dict("list") == {"id": [" 1 "], "text": ["a b"]}
    assert table["text"][0] == " a  b "


def test_an_unknown_cleaner_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"there is no cleaner 'emojis'; there are mojibake, html, .*spaces$"):
        clean_texts(["a"], ["spaces", "emojis"])


@pytest.mark.parametrize("name, package", [("mojibake", "ftfy"), ("emoji_zh", "emoji"), ("simplified", "OpenCC")])
def test_a_missing_package_is_named_with_what_to_install(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package.lower(), None)
    with pytest.raises(ModuleNotFoundError, match=f"'{name}' needs a package that is missing: pip install {package}$"):
        check_cleaners([name])
    assert count_changes(["a"]).loc[name, "install"] == f"pip install {package}"


def test_the_table_counts_the_texts_that_each_cleaner_changes():
    table = count_changes(["a  b", "c", "sooo  x", "@d"])
    assert table.index.tolist() == list(CLEANERS)
    assert table.loc[["spaces", "repeats", "mentions", "html"], "texts"].tolist() == [2, 1, 1, 0]
    assert table.loc["spaces", ["share", "characters"]].tolist() == [0.5, -1]
    assert table.loc["mentions", "characters"] == 3


def test_examples_show_the_change_and_go_on_from_what_was_cleaned_before():
    shown = show_cleaning(["x " * 100 + "sooo  @bob\n" + "y " * 100, "plain"], ["mentions", "repeats"], characters=30)
    before, after = shown.loc["repeats"].iloc[0]
    assert before.startswith("... ") and before.endswith(" ...") and "sooo␣␣@user\\ny" in before
    assert "soo␣␣@user\\ny" in after and "sooo" not in after
    assert shown.index.tolist() == [("mentions", 1), ("repeats", 1)]


def test_without_a_list_every_cleaner_is_shown_by_itself():
    shown = show_cleaning(["@bob http://x.y", "@ann", "@eve"], n=2)
    assert shown.index.tolist() == [(name, n) for name, n in (("urls", 1), ("drop_urls", 1))] + [
        (name, 3) for name in ("mentions", "mentions", "drop_mentions", "drop_mentions")
    ]
