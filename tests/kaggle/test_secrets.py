"""Credentials and local paths: found wherever they are, and named without being shown."""

import base64
import json
from pathlib import Path

import pytest

from kagglekit.kaggle.secrets import credentials, find_known, find_secrets, local_paths, redact

PLANTED = "PLANTED0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own without credentials, and an environment without any."""
    for name in (
        "KAGGLE_KEY",
        "KAGGLE_USERNAME",
        "KAGGLE_API_TOKEN",
        "KAGGLE_CONFIG_DIR",
        "XDG_CONFIG_HOME",
        "HF_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "people" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


def _finds(text: str = f"x = '{PLANTED}'") -> list[str]:
    found = find_secrets(text)
    assert not any(PLANTED in kind for kind in found)
    return found


@pytest.mark.parametrize("name", ["KAGGLE_KEY", "KAGGLE_API_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"])
def test_a_credential_of_the_environment_is_found_by_its_name(monkeypatch, name):
    assert not _finds()
    monkeypatch.setenv(name, PLANTED)
    assert _finds() == [f"the value of {name}"] and PLANTED in credentials()


@pytest.mark.parametrize("name", ["kaggle.json", "access_token", "access_token.txt", "credentials.json"])
def test_a_credential_of_the_clients_files_is_found(home, name):
    (home / ".kaggle").mkdir()
    told = {"kaggle.json": {"username": "myself", "key": PLANTED}, "credentials.json": {"refresh_token": PLANTED}}
    (home / ".kaggle" / name).write_text(json.dumps(told[name]) if name in told else f"{PLANTED}\n")
    assert _finds() == [f"a credential of .kaggle/{name}"]
    assert not find_secrets("myself and my key")


def test_a_variable_may_name_the_file_of_its_token(home, monkeypatch):
    (home / "token").write_text(PLANTED)
    for name in (str(home / "token"), "~/token"):
        monkeypatch.setenv("KAGGLE_API_TOKEN", name)
        assert _finds() == ["the value of KAGGLE_API_TOKEN"] and name not in credentials()


def test_other_places_of_credentials_are_looked_at(home, tmp_path, monkeypatch):
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {PLANTED}\n")
    assert _finds() == ["a credential of me/.netrc"]
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "kaggle.json").write_text('{"username": "myself", "key": "OTHER-9876543210"}')
    assert _finds("OTHER-9876543210") == [f"a credential of {tmp_path.name}/kaggle.json"]


def test_the_basic_header_of_the_client_is_a_credential_too(monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "myself")
    monkeypatch.setenv("KAGGLE_KEY", PLANTED)
    header = base64.b64encode(f"myself:{PLANTED}".encode()).decode()
    assert redact(f"Authorization: Basic {header}") == "Authorization: Basic ***"
    assert find_known(f"\x00{PLANTED}\xff".encode("latin-1")) == ["the value of KAGGLE_KEY"]


def test_a_short_value_is_no_credential(monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "k")
    assert "k" not in credentials() and redact("kaggle") == "kaggle"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("token = 'KGAT_" + "a1" * 16 + "'", "Kaggle token"),
        ('{"username": "me", "key": "' + "0a" * 16 + '"}', "kaggle.json"),
        (json.dumps('{"username": "me", "key": "' + "0a" * 16 + '"}'), "kaggle.json"),
        ("{'key': '" + "0a" * 16 + "', 'username': 'me'}", "kaggle.json"),
        ("os.environ['KAGGLE_KEY'] = '" + "0a" * 16 + "'", "key of Kaggle"),
        ("hf_" + "Ab1" * 12, "Hugging Face"),
        ("wandb.login(key='" + "0a" * 20 + "')", "Weights"),
        ("AKIA" + "ABCD" * 4, "AWS"),
        ("aws_secret_access_key = " + "aB3/" * 10, "AWS"),
        ("ghp_" + "a1" * 18, "GitHub"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("https://me:secret@example.org/x", "address with a password"),
    ],
)
def test_the_well_known_forms_of_credentials_are_found(text, kind):
    assert any(kind in found for found in find_secrets(text))


@pytest.mark.parametrize(
    "text",
    [
        "sha256 = '" + "0a" * 32 + "'",
        "commit = '" + "0a" * 20 + "'",
        "hf_hub_offline = True; task-specific-heads-for-classification-of-texts",
        "f'https://{user}:{password}@host'",
        "see https://example.org:8080/a@b and the parameter key='label'",
        '{"key": "' + "0a" * 16 + '"}',
    ],
)
def test_hashes_and_addresses_are_no_credentials(text):
    assert find_secrets(text) == []


def test_redacting_takes_out_the_credentials_and_nothing_else(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    monkeypatch.setenv("OTHER_TOKEN", PLANTED[:12])
    token = "KGAT_" + "a1" * 16
    assert redact(f"401 for {PLANTED}, {PLANTED[:12]}; {token}") == "401 for ***, ***; ***"


@pytest.mark.parametrize(
    "path",
    ["/home/me/data/train.csv", "/Users/me/x", "/root/work", "C:\\Users\\me", "C:\\\\Users\\\\me", "file:///home/me/x"],
)
def test_paths_of_a_persons_machine_are_found(path):
    (found,) = local_paths(f'data = "{path}"  # here')
    assert path.endswith(found)


def test_home_checkout_and_working_directory_are_found(home, tmp_path, monkeypatch):
    folder = tmp_path / "work" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    checkout = Path(__file__).parents[2]
    for place in (home, folder, checkout):
        assert f"{place}/a.csv" in local_paths(f"read('{place}/a.csv')")
        assert local_paths(f"{place}") and not local_paths(f"{place}2")


def test_other_paths_are_let_pass():
    allowed = "/kaggle/input/bbc /kaggle/working runs/home/x https://example.org/home/me/x /tmp/x ~/x /rooted/x"
    for text in allowed.split():
        assert local_paths(f"'{text}'") == [], text
