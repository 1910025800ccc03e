"""Kaggle's own client, asked so that nothing goes wrong in silence: what it lets pass is an error here, in words.

It is the package kaggle (tried with 2.2.4). It prints where it should raise, leaves out files whose upload failed, and
with the environment VERBOSE=1 prints every header with the credential: so what it prints is caught, and never shown.
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kagglekit.kaggle.secrets import redact

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi


T = TypeVar("T")
HOW = (
    "make a new token at https://www.kaggle.com/settings (API, Generate New Token), and put it into the file "
    "~/.kaggle/access_token or into the variable KAGGLE_API_TOKEN"
)
LONGEST = 60.0  # seconds between two tries


class KaggleError(RuntimeError):
    """Kaggle did not do what it was asked for. `status`: the HTTP status of its answer, 0 where there is none."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(redact(message))
        self.status = status


def connect() -> "KaggleApi":
    """The client with the credential of this user, which Kaggle has been asked about where it is a token.

    Raises ModuleNotFoundError without the package, KaggleError without a credential or with one that is refused, and
    for KAGGLE_API_ENVIRONMENT=TEST and the like, with which the client talks to kaggle.com all the same.
    """
    environment = os.environ.get("KAGGLE_API_ENVIRONMENT", "PROD")
    if environment not in ("PROD", "LOCALHOST"):
        raise KaggleError(
            f"KAGGLE_API_ENVIRONMENT={environment}: the client heeds only LOCALHOST and would talk to kaggle.com. "
            "Unset the variable, or set LOCALHOST for a server of your own"
        )
    try:
        with _unheard():
            from kaggle.api.kaggle_api_extended import KaggleApi
            from kagglesdk.kaggle_env import get_access_token_from_env
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the client of Kaggle cannot be imported, {error.name} is missing: pip install "kagglekit[kaggle]"',
            name=error.name,
        ) from None
    if ("--local" in KaggleApi.args) != (environment == "LOCALHOST"):
        raise KaggleError("KAGGLE_API_ENVIRONMENT was changed after the client was imported: start Python anew")
    api = _strict(KaggleApi)()
    api.args = [word for word in KaggleApi.args if word == "--local"]  # never --verbose, which prints the credential
    token, source = get_access_token_from_env()
    try:
        asked(api.authenticate, "log in")
    except KaggleError as error:
        if error.status:
            raise
        said = f"the token in {source} is expired or refused" if token else "there is no credential of Kaggle here"
        raise KaggleError(f"{said}: {HOW}", 401) from None
    if token and api.config_values.get(api.CONFIG_NAME_TOKEN) != token:  # it is sent all the same
        raise KaggleError(f"the token in {source} is expired or refused: {HOW}; or remove it", 401)
    return api


def asked(call: Callable[[], T], what: str, patience: float = 300.0, again: bool = True) -> T:
    """What `call` gives, tried again while Kaggle is busy. `what`: the thing that is done, for messages: "push x".

    patience: seconds to wait in all, 0 tries once. It waits as long as Kaggle says (429 with Retry-After), else 1, 2,
    4, ... up to 60 s. again: also after errors of the server (5xx) and broken connections, with which it is not known
    whether it was done; False for what counts, such as a submission.
    Raises KaggleError, in which no credential stands.
    """
    begin, wait = time.monotonic(), 1.0
    while True:
        try:
            with _unheard():
                return call()
        except SystemExit as error:  # the client ends the program where it should raise
            raise KaggleError(f"{what}: the client of Kaggle gave up (exit code {error.code})") from None
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            failure, pause = _explain(error, what), None
            if failure.status == 429:
                pause = _retry_after(error)
            elif failure.status not in (0, *range(500, 600)) or not again or isinstance(error, ValueError):
                if failure.status >= 500 or _is_broken(error):
                    failure = KaggleError(f"{failure}. It may be done all the same: look there first", failure.status)
                raise failure from None
            elif failure.status == 0 and not _is_broken(error):
                raise
        pause = wait if pause is None else pause
        if time.monotonic() - begin + pause > patience:
            raise KaggleError(f"{failure}. It was tried for {time.monotonic() - begin:.0f} s", failure.status)
        if pause >= 5:
            print(f"{failure}; asked again in {pause:.0f} s", flush=True)
        time.sleep(pause)
        wait = min(2 * wait, LONGEST)


def _explain(error: Exception, what: str) -> KaggleError:
    """The error of the client in words, with the status of Kaggle's answer."""
    answers = (getattr(each, "response", None) for each in (error, error.__context__))
    response = next((answer for answer in answers if answer is not None), None)
    status = 0 if response is None else _status(response)
    said = str(error).strip() or type(error).__name__
    if status in (401, 403):
        said = f"Kaggle refuses it ({status}: {_message(response)}). The credential is expired or refused: {HOW}"
        said += "" if status == 401 else ". Or it belongs to another user, or rules are not accepted yet"
    elif status == 404:
        said = (
            f"Kaggle does not know it (404: {_message(response)}): look at owner and slug, or at the competition's name"
        )
    elif status == 429:
        said = "Kaggle gets too many requests of this user (429): try again later"
    elif status >= 500:
        said = f"Kaggle's server failed ({status}: {_message(response)}): try again later"
    elif status:
        said = f"Kaggle says {status}: {_message(response)}"
    return KaggleError(f"{what}: {said}", status)


def _status(response) -> int:
    """The status of an answer, which stands in its text where the HTTP status is a good one."""
    try:
        told = response.json()
    except ValueError:
        told = None
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, int) and response.status_code < 400 else response.status_code


def _message(response) -> str:
    """What an answer says went wrong, in one short line."""
    try:
        said = response.json()["message"]
    except (ValueError, KeyError, TypeError):
        said = response.reason or "no reason given"
    return " ".join(str(said).split())[:300]


def _is_broken(error: Exception) -> bool:
    """Whether the connection failed, not something on this disk."""
    from requests import ConnectionError, Timeout
    from requests.exceptions import ChunkedEncodingError

    return isinstance(error, (ConnectionError, Timeout, ChunkedEncodingError))


def _retry_after(error: Exception) -> float | None:
    """How long Kaggle wants to be left alone, in seconds; None where it does not say."""
    told = error.response.headers.get("Retry-After", "") if getattr(error, "response", None) is not None else ""
    if told.replace(".", "", 1).isdecimal():
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


@contextmanager
def _unheard() -> Iterator[None]:
    """What the client prints goes nowhere."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _strict(api: type["KaggleApi"]) -> type["KaggleApi"]:
    """The client, with an error where files of a data set did not arrive: its own goes on without them."""

    class Strict(api):
        def upload_files(self, request, resources, folder, blob_type, upload_context, *args, **options):
            super().upload_files(request, resources, folder, blob_type, upload_context, *args, **options)
            apart = {self.DATASET_METADATA_FILE, self.OLD_DATASET_METADATA_FILE, self.KERNEL_METADATA_FILE}
            files = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and path.name not in apart]
            if len(request.files) < len(files):
                for path in files:  # else the next time goes on with an upload that Kaggle has thrown away
                    Path(upload_context.get_upload_info_file_path(str(Path(folder, path.name)))).unlink(missing_ok=True)
                raise KaggleError(
                    f"{folder}: {len(files) - len(request.files)} of {len(files)} files did not arrive, so no version "
                    "of the data set was made. Push it again"
                )

    return Strict
