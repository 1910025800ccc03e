"""How far kernels are on Kaggle, and what went wrong in one."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kagglekit.kaggle.client import KaggleError, asked, connect
from kagglekit.kaggle.metadata import Ref
from kagglekit.kaggle.secrets import redact

FAILED = ("error", "cancel_acknowledged")
ENDED = ("complete", *FAILED)


@dataclass(frozen=True)
class Status:
    """How far a kernel is.

    state: queued, running, complete, error, cancel_requested, cancel_acknowledged or new_script. message: why it
    failed, where Kaggle says so.
    """

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

    every: seconds between two looks. limit: seconds to wait at most; kernels go on when it is over.
    Raises KaggleError when all have ended and one has failed, with why and the last lines of its log; and when the
    limit is over.
    """
    api, begin, found = api or connect(), time.monotonic(), {}
    kernels = [str(Ref.parse(str(ref)).bare) for ref in refs]
    while True:
        for kernel in kernels:
            if found.get(kernel, Status("")).state not in ENDED:
                now = status(kernel, api)
                if now != found.get(kernel):
                    print(f"{_clock(time.monotonic() - begin)}  {kernel}: {now}", flush=True)
                found[kernel] = now
        running = [kernel for kernel in kernels if found[kernel].state not in ENDED]
        if not running:
            break
        if time.monotonic() - begin + every > limit:
            raise KaggleError(
                f"{', '.join(running)}: not done after {limit:.0f} s, and still {found[running[0]].state}"
            )
        time.sleep(every)
    failed = [
        f"{kernel} ended as {found[kernel]}\n{last_lines(kernel, api=api)}".strip()
        for kernel in kernels
        if found[kernel].state in FAILED
    ]
    if failed:
        raise KaggleError("\n".join(failed))
    return found


def last_lines(ref: Ref | str, lines: int = 15, api=None) -> str:
    """The last lines of a kernel's log, without credentials; empty where there is none."""
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


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
