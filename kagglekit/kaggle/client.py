"""Kaggle's own client, with an error wherever it would fail in silence; and the states of kernels.

It is the package kaggle (tried with 2.2.4). It prints where it should raise, skips files whose upload failed, ends the
program, and with VERBOSE=1 prints every header with the credential: so what it prints is caught and never shown. Its
own retries cover uploads of data sets alone.
"""

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kagglekit.kaggle.metadata import Ref
from kagglekit.kaggle.secrets import redact
from kagglekit.progress import clock

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi


T = TypeVar("T")
HOW = (
    "make a new token at https://www.kaggle.com/settings (API, Generate New Token), and put it into the file "
    "~/.kaggle/access_token or into the variable KAGGLE_API_TOKEN"
)
LONGEST = 60.0  # seconds between two tries
FAILED = ("error", "cancel_acknowledged")
ENDED = ("complete", *FAILED)


class KaggleError(RuntimeError):
    """Kaggle did not do what it was asked for. `status`: the HTTP status of its answer, 0 where there is none."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(redact(message))
        self.status = status


def connect() -> "KaggleApi":
    """The client, logged in with this user's credential; Kaggle is asked whether a token is valid.

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
        with _silent():
            from kaggle.api.kaggle_api_extended import KaggleApi
            from kagglesdk.kaggle_env import get_access_token_from_env
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the client of Kaggle cannot be imported, {error.name} is missing: pip install "kagglekit[kaggle]"',
            name=error.name,
        ) from None
    if ("--local" in KaggleApi.args) != (environment == "LOCALHOST"):
        raise KaggleError("KAGGLE_API_ENVIRONMENT was changed after the client was imported: restart Python")
    api = _strict(KaggleApi)()
    api.args = [word for word in KaggleApi.args if word == "--local"]  # never --verbose, which prints the credential
    token, source = get_access_token_from_env()
    refused = f"the token in {source} is expired or refused: {HOW}"
    try:
        asked(api.authenticate, "log in")
    except KaggleError as error:
        if error.status:
            raise
        raise KaggleError(refused if token else f"there is no credential of Kaggle here: {HOW}", 401) from None
    if token and api.config_values.get(api.CONFIG_NAME_TOKEN) != token:  # it is sent all the same
        raise KaggleError(f"{refused}; or remove it", 401)
    return api


def asked(call: Callable[[], T], what: str, patience: float = 300.0, again: bool = True) -> T:
    """The result of `call`, tried again while Kaggle is busy. what: the action, for messages: "push kernel x".

    patience: seconds to wait in all; 0 tries once. Waits as long as Kaggle says (429 with Retry-After), else 1, 2, 4,
    ... up to 60 s. again: also after server errors (5xx) and broken connections, which leave open whether it was done;
    False for what must happen once, such as a submission. Raises KaggleError, without credentials in its message.
    """
    begin, wait = time.monotonic(), 1.0
    while True:
        try:
            with _silent():
                return call()
        except SystemExit as error:  # the client ends the program where it should raise
            raise KaggleError(f"{what}: the client of Kaggle gave up (exit code {error.code})") from None
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            failure, pause = _explain(error, what), wait
            if failure.status == 429:
                after = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
                pause = float(after) if after.replace(".", "", 1).isdecimal() else wait
            elif failure.status not in (0, *range(500, 600)) or not again or isinstance(error, ValueError):
                if failure.status >= 500 or _is_broken(error):
                    failure = KaggleError(f"{failure}. It may be done all the same: look there first", failure.status)
                raise failure from None
            elif failure.status == 0 and not _is_broken(error):
                raise
        if time.monotonic() - begin + pause > patience:
            raise KaggleError(f"{failure}. It was tried for {time.monotonic() - begin:.0f} s", failure.status)
        if pause >= 5:
            print(f"{failure}; asked again in {pause:.0f} s", flush=True)
        time.sleep(pause)
        wait = min(2 * wait, LONGEST)


def _explain(error: Exception, what: str) -> KaggleError:
    """The client's error in words, with the status of Kaggle's answer."""
    answers = (getattr(each, "response", None) for each in (error, error.__context__))
    response = next((answer for answer in answers if answer is not None), None)
    if response is None:
        return KaggleError(f"{what}: {str(error).strip() or type(error).__name__}")
    try:
        body = response.json()
    except ValueError:
        body = None
    body, status = body if isinstance(body, dict) else {}, response.status_code
    if status < 400 and isinstance(body.get("code"), int):  # the status of the answer stands in its text
        status = body["code"]
    why = " ".join(str(body.get("message") or response.reason or "no reason given").split())[:300]
    said = f"Kaggle says {status}: {why}"
    if status in (401, 403):
        said = f"Kaggle refuses it ({status}: {why}). The credential is expired or refused: {HOW}"
        said += "" if status == 401 else ". Or it belongs to another user, or rules are not accepted yet"
    elif status == 404:
        said = f"Kaggle does not know it (404: {why}): check owner and slug, or the competition's name"
    elif status == 429:
        said = "Kaggle gets too many requests of this user (429): try again later"
    elif status >= 500:
        said = f"Kaggle's server failed ({status}: {why}): try again later"
    return KaggleError(f"{what}: {said}", status)


def _is_broken(error: Exception) -> bool:
    """Whether the connection failed, not something on this disk."""
    from requests import ConnectionError, Timeout
    from requests.exceptions import ChunkedEncodingError

    return isinstance(error, (ConnectionError, Timeout, ChunkedEncodingError))


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what the client prints."""
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
                for path in files:  # else the next push resumes an upload that Kaggle has thrown away
                    Path(upload_context.get_upload_info_file_path(str(Path(folder, path.name)))).unlink(missing_ok=True)
                raise KaggleError(
                    f"{folder}: {len(files) - len(request.files)} of {len(files)} files did not arrive, so no version "
                    "of the data set was made. Push it again"
                )

    return Strict


@dataclass(frozen=True)
class Status:
    """How far a kernel is: queued, running, complete, error, cancel_requested, cancel_acknowledged or new_script.
    message: why it failed, where Kaggle says so."""

    state: str
    message: str = ""

    def __str__(self):
        return f"{self.state}: {self.message}" if self.message else self.state


def status(ref: Ref | str, api=None) -> Status:
    """How far the newest version of a kernel is. Raises KaggleError for a kernel that is not there."""
    api, kernel = api or connect(), str(Ref.parse(str(ref)).bare)
    answer = asked(lambda: api.kernels_status(kernel), f"status of {kernel}")
    return Status(answer.status.name.lower(), redact(answer.failure_message or ""))


def wait(refs: Sequence[Ref | str], every: float = 30.0, limit: float = 13 * 3600, api=None) -> dict[str, Status]:
    """Wait until kernels have run, with a line for each change of a state; returns kernel -> state.

    every: seconds between two looks. limit: seconds to wait at most; the kernels go on after it.
    Raises KaggleError when all have ended and one has failed, with the reason and the last lines of its log, and when
    the limit is over.
    """
    api, begin, found = api or connect(), time.monotonic(), {}
    kernels = [str(Ref.parse(str(ref)).bare) for ref in refs]
    while running := [kernel for kernel in kernels if found.get(kernel, Status("")).state not in ENDED]:
        if found:
            if time.monotonic() - begin + every > limit:
                state = found[running[0]].state
                raise KaggleError(f"{', '.join(running)}: not done after {limit:.0f} s, and still {state}")
            time.sleep(every)
        for kernel in running:
            now = status(kernel, api)
            if now != found.get(kernel):
                print(f"{clock(time.monotonic() - begin)}  {kernel}: {now}", flush=True)
            found[kernel] = now
    failed = [
        f"{kernel} ended as {found[kernel]}\n{last_lines(kernel, api=api)}".strip()
        for kernel in kernels
        if found[kernel].state in FAILED
    ]
    if failed:
        raise KaggleError("\n".join(failed))
    return found


def last_lines(ref: Ref | str, lines: int = 15, api=None) -> str:
    """The last lines of a kernel's log, without credentials; "" where there is none."""
    api, kernel = api or connect(), str(Ref.parse(str(ref)).bare)
    return "\n".join(read_log(asked(lambda: api.kernels_logs(kernel), f"log of {kernel}")).splitlines()[-lines:])


def read_log(log: str) -> str:
    """The text of a log, which Kaggle keeps as a JSON list of {"stream_name", "time", "data"}; without credentials."""
    try:
        events = json.loads(log or "[]")
    except ValueError:
        events = None
    if isinstance(events, list) and all(isinstance(event, dict) for event in events):
        log = "".join(str(event.get("data", "")) for event in events)
    return redact(log)
