"""Which languages texts are in, and how sure that is."""

import pytest

from kagglekit.model.languages import find_languages

ENGLISH = "The bus to the station was late again, and it is not the first time that we have been waiting for it."
SPANISH = "El autobús llegó tarde otra vez, y no es la primera vez que lo esperamos en la estación de la ciudad."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("English", ENGLISH),
        ("Spanish", SPANISH),
        ("Portuguese", "O ônibus chegou atrasado de novo, e não é a primeira vez que esperamos por ele na estação."),
        ("French", "Le bus est encore arrivé en retard, et ce n'est pas la première fois que nous l'attendons."),
        (
            "Italian",
            "L'autobus è arrivato di nuovo in ritardo, e non è la prima volta che lo aspettiamo alla stazione.",
        ),
        ("German", "Der Bus ist wieder zu spät gekommen, und es ist nicht das erste Mal, dass wir auf ihn warten."),
        ("Dutch", "De bus was weer te laat, en het is niet de eerste keer dat we er op het station op wachten."),
        ("Polish", "Autobus znowu się spóźnił i nie jest to pierwszy raz, kiedy na niego czekamy na dworcu."),
        ("Turkish", "Otobüs yine geç kaldı ve bu ilk kez değil, istasyonda çok bekledik ama bir şey olmadı."),
        ("Vietnamese", "Xe buýt lại đến muộn và đây không phải là lần đầu tiên chúng tôi chờ nó ở bến của thành phố."),
        ("Chinese", "这部手机比 iPhone 便宜,但是拍照不如 Samsung Galaxy 好。"),
        ("Japanese", "このレストランのサービスはとても良いですが、待ち時間が長すぎます。"),
        ("Korean", "버스가 또 늦었고, 우리가 기다린 것은 이번이 처음이 아니다."),
        ("Russian", "Автобус опять опоздал, и мы ждали его не в первый раз. Это было очень холодное утро."),
        ("Ukrainian", "Автобус знову запізнився, і ми чекали на нього не вперше. Її брат теж їхав із нами."),
        ("Arabic", "تأخرت الحافلة مرة أخرى، وليست هذه هي المرة الأولى التي ننتظرها فيها."),
        ("Persian", "اتوبوس دوباره دیر کرد و این اولین بار نیست که ما در ایستگاه شهر منتظر آن هستیم، پس چه کنیم؟"),
        ("Urdu", "بس پھر دیر سے آئی، اور یہ پہلی بار نہیں ہے کہ ہم نے اس کا انتظار کیا ہے۔ یہ بڑی بات ہے۔"),
        ("Hindi", "बस फिर से देर से आई, और यह पहली बार नहीं है कि हमने इसका इंतज़ार किया है।"),
        ("Greek", "Το λεωφορείο άργησε πάλι, και δεν είναι η πρώτη φορά που το περιμένουμε."),
        ("Thai", "รถบัสมาสายอีกแล้ว และนี่ไม่ใช่ครั้งแรกที่เรารอมัน"),
    ],
)
def test_a_language_is_named_and_how_sure_that_is(name, text):
    found = find_languages([text] * 20)
    assert found.name == name and found.words.startswith(f"The texts are in {name}, ")
    assert found.code == {"English": "en", "Chinese": "zh"}.get(name, "multilingual")
    assert ", surely: " in found.words or name == "Chinese"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([ENGLISH] * 6 + [SPANISH] * 4, "in several languages: English (60%), Spanish (40%)"),
        ([ENGLISH] * 17 + [SPANISH] * 3, "English (85%), Spanish (15%)"),
        ([ENGLISH] * 19 + [SPANISH], "The texts are in English, surely: 95% of 20 texts"),
        (["xqz brr", "zzz"] * 5, "The language is unclear: only 0 of 10 texts"),
        (["12 34"], "The texts have no letters"),
        ([ENGLISH, "Автобус опять опоздал, и мы ждали его не в первый раз. Это было очень холодное утро."], "Russian"),
        (["लेकिन"], "Hindi or another language in Devanagari letters"),
    ],
)
def test_several_languages_and_none_are_said(texts, words):
    assert words in find_languages(texts).words


@pytest.mark.parametrize(
    "text", ["a film, a story, a a", "A small room with a view", "a 5 km run, a race", "good film, a café a street"]
)
def test_one_word_of_another_language_that_comes_twice_tells_nothing(text):
    found = find_languages([text] * 40)
    assert found.code == "en" and found.name in ("English", "unknown")
