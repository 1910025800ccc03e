"""The competitions of the small Kaggle: submissions of files and of kernels, scored by a function."""

from collections.abc import Callable
from pathlib import Path


class Refused(Exception):
    """An answer that is an HTTP error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Contests:
    """competitions: name -> (anything, how a submitted file is scored; ValueError: it cannot be). allowed: submissions
    that are left today."""

    def __init__(self):
        self.competitions: dict[str, tuple[object, Callable[[Path], str]]] = {}
        self.submissions: dict[str, list[dict]] = {}
        self.allowed = 5

    def _competitions_StartSubmissionUpload(self, body, user):
        self._competition(body)
        return self._blobs_StartBlobUpload({"name": body["fileName"], "contentLength": body["contentLength"]}, user)

    def _competition(self, body) -> str:
        if body["competitionName"] not in self.competitions:
            raise Refused(404, "Competition not found")
        return body["competitionName"]

    def _competitions_CreateSubmission(self, body, user):
        upload = self.uploads[body["blobFileTokens"]]
        return self._submit(self._competition(body), upload.file, upload.name, body.get("submissionDescription", ""))

    def _competitions_CreateCodeSubmission(self, body, user):
        versions = self.sessions.get(f"{body['kernelOwner']}/{body['kernelSlug']}", [])
        if not 1 <= int(body.get("kernelVersion", 0)) <= len(versions):
            raise Refused(404, "there is no such version of the kernel")
        file = versions[int(body["kernelVersion"]) - 1].output / body["fileName"]
        return self._submit(self._competition(body), file, body["fileName"], body.get("submissionDescription", ""))

    def _submit(self, competition: str, file: Path, name: str, message: str) -> dict:
        if self.allowed < 1:
            raise Refused(400, "no submissions left today")
        self.allowed -= 1
        listed = self.submissions.setdefault(competition, [])
        told = {"ref": 100 + len(listed), "fileName": name, "description": message, "file": str(file)}
        try:
            told |= {"status": "COMPLETE", "publicScore": self.competitions[competition][1](file)}
        except (ValueError, OSError) as error:
            told |= {"status": "ERROR", "errorDescription": str(error)}
        listed.append(told | {"looks": 1})
        return {"message": f"Successfully submitted to {competition}", "ref": told["ref"]}

    def _competitions_ListSubmissions(self, body, user):
        shown = []
        for told in self.submissions.get(self._competition(body), []):
            told["looks"] -= 1
            pending = {"status": "PENDING", "publicScore": ""} if told["looks"] >= 0 else {}
            shown.append({key: told[key] for key in told if key not in ("file", "looks")} | pending)
        return {"submissions": shown[::-1]}

    def _competitions_GetSubmissionLimits(self, body, user):
        return {"numAllowedNow": self.allowed}
