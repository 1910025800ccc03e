"""Whose credential is used, what is said when it is refused, and that it stands nowhere afterwards."""

import logging
import subprocess
import sys

import pandas as pd
import pytest

from kagglekit.kaggle.client import KaggleError, connect, wait
from kagglekit.kaggle.competition import submit_file
from kagglekit.kaggle.pull import pull
from kagglekit.kaggle.push import push

TOKEN = "KGAT_PLANTED5b1f0c7ePLANTED5b1f0c7e"
KERNEL = "stubuser/small-base"


@pytest.fixture
def tokens(monkeypatch, server, environment):
    """A home with a token in place of the legacy key; the small Kaggle knows it."""
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    (environment / ".kaggle").mkdir()
    (environment / ".kaggle" / "access_token").write_text(f"{TOKEN}\n")
    server.tokens[TOKEN] = "stubuser"
    return environment


def planted(folder):
    """The files below a folder in which a planted credential stands."""
    return [path for path in folder.rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()]


def test_a_planted_credential_stands_in_no_output_file_message_or_log(
    server, client, folders, work, tmp_path, monkeypatch, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(sys.modules["kaggle.api.kaggle_api_extended"].KaggleApi, "args", ["--local", "--verbose"])
    api, messages = connect(), []
    assert api.args == ["--local"]
    key = server.users["stubuser"]

    def run(folder, output):
        (output / "made.csv").write_text("id\n")
        return f"a cell printed {key}\n"

    server.run = run
    server.competitions["bbc"] = (None, lambda file: "0.5")
    frame = pd.DataFrame({"id": [f"t{n}" for n in range(4)], "label": "good"})
    frame.to_csv(work / "submission.csv", index=False)
    pushed = push(folders, f"version of {folders[0].name}", every=0.01, api=api)
    wait([KERNEL], 0.01, api=api)
    assert pull([KERNEL], work, api=api) == []
    submitted = submit_file(work, "bbc", "base", api=api)
    server.answer("SaveKernel", error=f"the key {key} is not yours")
    server.fail("GetKernelSessionStatus", 400, message=f"no such key: {key}")
    for call in (lambda: push([folders[1]], api=api)[0], lambda: wait([KERNEL], 0.01, api=api)):
        with pytest.raises(KaggleError) as error:
            call()
        messages.append(str(error.value))
    server.users.clear()
    with pytest.raises(KaggleError, match="expired or refused") as error:
        push([folders[1]], api=api)[0]
    messages.append(str(error.value))
    assert "***" in messages[0] and "***" in messages[1]
    assert (work / "kaggle" / "logs" / "stubuser" / "small-base.log").read_text() == "a cell printed ***\n"
    out, err = capfd.readouterr()
    said = "\n".join([out, err, caplog.text, *messages, *map(str, pushed), str(submitted)])
    assert "PLANTED" not in said and not server.strangers
    assert not planted(tmp_path) and not planted(server.root)


def test_a_token_is_used_and_an_expired_one_is_said_to_be_so(server, tokens, folders, monkeypatch):
    push([folders[0]], every=0.01, api=connect())
    server.tokens.clear()
    with pytest.raises(
        KaggleError, match=r"the token in access_token is expired or refused: make a new token at https"
    ):
        connect()
    monkeypatch.setenv("KAGGLE_USERNAME", "stubuser")  # a legacy key beside it does not help: the token goes first
    monkeypatch.setenv("KAGGLE_KEY", server.users["stubuser"])
    with pytest.raises(KaggleError, match=r"the token in access_token is expired or refused.*or remove it"):
        connect()
    server.fail("IntrospectToken", 401, message=f"bad token {TOKEN}")
    with pytest.raises(KaggleError, match="log in: Kaggle refuses it") as error:
        connect()
    assert "PLANTED" not in str(error.value)


def test_a_credential_that_expires_on_the_way_is_said_to_have_done_so(server, client, folders):
    server.competitions["bbc"] = (None, str)
    push([folders[0]], every=0.01, api=client)
    server.users.clear()
    with pytest.raises(KaggleError, match=r"push kernel .*refuses it \(401: Unauthorized\).*make a new token at"):
        push([folders[1]], api=client)
    with pytest.raises(KaggleError, match=r"look for .*make a new token at"):
        push([folders[0]], api=client)


def test_without_a_credential_it_says_how_to_make_one(environment, monkeypatch):
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(KaggleError, match=r"there is no credential of Kaggle here: make a new token at .*access_token"):
        connect()


def test_environments_in_which_the_client_talks_to_kaggle_all_the_same_are_refused(environment, monkeypatch):
    for name in ("TEST", "STAGING"):
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", name)
        with pytest.raises(KaggleError, match=f"KAGGLE_API_ENVIRONMENT={name}: the client heeds only LOCALHOST"):
            connect()
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT")
    with pytest.raises(KaggleError, match="was changed after the client was imported"):
        connect()


def test_the_client_is_imported_only_when_kaggle_is_asked(environment):
    code = "import sys, kagglekit.kaggle.client; "
    code += "assert not {'kaggle', 'kagglesdk', 'requests'} & sys.modules.keys(), 'imported'; "
    code += "sys.modules['kaggle'] = None; kagglekit.kaggle.client.connect()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith('pip install "kagglekit[kaggle]"')
