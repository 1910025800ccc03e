import json
from contextlib import suppress

import pytest

from kagglekit.files import Damaged, hash_files, read_json, write_json


def test_json_keeps_its_values_and_scripts(tmp_path):
    value = {"text": "שלום 😀", "numbers": [1, 2.5, None], "no": False}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "שלום 😀" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_the_hash_of_files_depends_on_names_contents_and_order(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    for path, text in ((a, "x"), (b, "y"), (c, "x")):
        path.write_text(text)
    assert hash_files([a, b]) == hash_files([a, b])
    assert len({hash_files([a, b]), hash_files([b, a]), hash_files([c, b]), hash_files([a])}) == 4


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbled": lambda data: data[:20] + bytes(range(128, 188)) + data[80:],
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"<html>404</html>",
    "another kind": lambda data: b"[]",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named_with_what_makes_it_again(tmp_path, how):
    run = tmp_path / "base"
    write_json(run / "params.json", {"recipe": {"backbone": "bert"}, "inputs": {}, "versions": {"torch": "2"}})
    for file, remedy in {
        tmp_path / "task.json": "run 1_eda again",
        run / "score.json": "run 3_train again with run=base$",
        run / "fold0" / "model" / "classifier.json": rf"delete {run}/fold0 and run 3_train again with run=base$",
        run / "params.json": "run 3_train again with run=base overwrite=True",
        tmp_path / "submission.json": "run 5_submit again",
        tmp_path / "elsewhere.json": "fetch it again",
    }.items():
        write_json(file, {"some": "values " * 9, "more": [1, 2, 3]})
        file.write_bytes(DAMAGE[how](file.read_bytes()))
        with pytest.raises(Damaged, match=rf"^{file} .*: {remedy}") as error:
            read_json(file)
        assert "\n" not in str(error.value)


def test_every_byte_of_a_json_counts(tmp_path):
    write_json(tmp_path / "a.json", {"labels": ["ham", "spam"], "weights": {"0": 0.25}, "no": None, "count": 17})
    data, before = (tmp_path / "a.json").read_bytes(), read_json(tmp_path / "a.json")
    for at in range(len(data)):
        (tmp_path / "a.json").write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
        with suppress(Damaged):
            assert {name: value for name, value in read_json(tmp_path / "a.json").items() if name in before} == before


def test_json_for_other_programs_and_of_older_versions_has_no_checksum(tmp_path):
    write_json(tmp_path / "plain.json", {"id": "me/kernel"}, plain=True)
    assert (
        json.loads((tmp_path / "plain.json").read_text()) == {"id": "me/kernel"} == read_json(tmp_path / "plain.json")
    )


def test_missing_files_and_folders_are_no_damage(tmp_path):
    for path, kind in ((tmp_path / "none.json", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(kind):
            read_json(path)
