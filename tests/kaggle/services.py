"""What the small Kaggle of `server` does: submissions scored by a function, and data sets and kernels, each version in
a folder of its own."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kagglekit.kaggle.metadata import KERNEL_KEYS

SOURCES = ("dataset", "competition", "kernel", "model")


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
        self.joined: set[str] = set()  # competitions whose rules were accepted; their files lie in root/data/NAME

    def _competitions_StartSubmissionUpload(self, body, user):
        self._competition(body)
        return self._blobs_StartBlobUpload({"name": body["fileName"], "contentLength": body["contentLength"]}, user)

    def _competition(self, body) -> str:
        if body["competitionName"] not in self.competitions:
            raise Refused(404, "Competition not found")
        return body["competitionName"]

    def _competitions_ListDataFiles(self, body, user):
        files = self._data(body)
        begin = int(body.get("pageToken") or 0)
        page = [{"name": name, "totalBytes": file.stat().st_size} for name, file in files.items()][begin : begin + 2]
        return {"files": page, "nextPageToken": str(begin + 2) if begin + 2 < len(files) else ""}

    def _competitions_DownloadDataFiles(self, body, user):
        files, name = self._data(body), body["competitionName"]
        if len(files) == 1:
            return {"redirect": self._url(next(iter(files.values())))}
        packed = self.root / "packed" / f"{name}.zip"
        packed.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(packed, "w") as archive:
            for inside, file in files.items():
                archive.write(file, inside)
        return {"redirect": self._url(packed)}

    def _competitions_ListCompetitions(self, body, user):
        found = [name for name in self.competitions if body.get("search", "") in name]
        return {"competitions": [{"ref": f"https://www.kaggle.com/competitions/{name}"} for name in found]}

    def _data(self, body) -> dict[str, Path]:
        """The files of a competition: those in root/data/NAME."""
        name = self._competition(body)
        if name not in self.joined:
            raise Refused(403, "You must accept this competition's rules before you'll be able to download files.")
        place = self.root / "data" / name
        return {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}

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
        listed.append(told)
        return {"message": f"Successfully submitted to {competition}", "ref": told["ref"]}

    def _competitions_GetSubmissionLimits(self, body, user):
        return {"numAllowedNow": self.allowed}


@dataclass
class Upload:
    file: Path
    name: str
    wanted: int


@dataclass
class Session:
    """A version of a kernel that runs: a look at it brings it one state further."""

    folder: Path
    output: Path
    states: list[str]  # that are still shown before it runs
    state: str = "RUNNING"
    failure: str = ""
    log: str = ""


class Services(Contests):
    """run: what a kernel does, (its folder, the folder of its output) -> its log; an exception is its failure.

    states: what the first looks at a kernel see; with the next one it has run. page: files to a page of outputs. slow:
    looks at data sets that are not ready.
    """

    def __init__(self, root: Path):
        super().__init__()
        self.root = root
        self.run: Callable[[Path, Path], str] = lambda folder, output: ""
        self.uploads: dict[str, Upload] = {}
        self.sessions: dict[str, list[Session]] = {}
        self.datasets: dict[str, list[Path]] = {}
        self.page, self.slow, self.states = 2, 0, ["QUEUED", "RUNNING"]

    def kernel_folder(self, ref: str) -> Path:
        """The folder of a kernel's newest version, or of that of owner/slug/version, as it was pushed."""
        owner, slug, *version = ref.split("/")
        return self.sessions[f"{owner}/{slug}"][int(version[0]) - 1 if version else -1].folder

    def dataset_folder(self, ref: str) -> Path:
        """The same for a data set."""
        owner, slug, *version = ref.split("/")
        return self.datasets[f"{owner}/{slug}"][int(version[0]) - 1 if version else -1]

    def serve(self, service: str, method: str, body: dict, user: str) -> dict:
        kind = service.partition(".")[0]
        handler = getattr(self, f"_{kind}_{method}", None)
        if handler is None:
            raise Refused(404, f"there is no {service}/{method}")
        return handler(body, user)

    def _blobs_StartBlobUpload(self, body, user):
        token = f"blob{len(self.uploads)}"
        file = self.root / "uploads" / token
        file.parent.mkdir(parents=True, exist_ok=True)
        self.uploads[token] = Upload(file, body["name"], int(body["contentLength"]))
        return {"token": token, "createUrl": f"{self.address}/upload/{token}"}

    def _datasets_GetDatasetStatus(self, body, user):
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if ref not in self.datasets:
            raise Refused(403, "Permission 'datasets.get' was denied")  # Kaggle's answer for what does not exist
        self.slow -= 1
        return {"status": "BLOBS_RECEIVED" if self.slow >= 0 else "READY"}

    def _datasets_GetDataset(self, body, user):
        versions = self.datasets[f"{body['ownerSlug']}/{body['datasetSlug']}"]
        return {"currentVersionNumber": len(versions)}

    def _datasets_CreateDataset(self, body, user):
        ref = f"{body['ownerSlug']}/{body['slug']}"
        if ref in self.datasets or not 6 <= len(body["title"]) <= 50:
            return {"status": "error", "error": f"the title {body['title']!r} cannot be taken"}
        told = {"id": ref, "title": body["title"], "licenses": [{"name": body["licenseName"]}]}
        return self._keep(ref, body["files"], {**told, "isPrivate": body.get("isPrivate", False)}, user)

    def _datasets_CreateDatasetVersion(self, body, user):
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        told = json.loads((self.datasets[ref][-1] / "dataset-metadata.json").read_text())
        return self._keep(ref, body["body"]["files"], told, user)

    def _keep(self, ref: str, files: list[dict], told: dict, user: str) -> dict:
        if ref.partition("/")[0] != user:
            raise Refused(403, f"{user} may not write to {ref}")
        place = self.root / "datasets" / ref / str(len(self.datasets.get(ref, [])) + 1)
        place.mkdir(parents=True)
        for file in files:
            upload = self.uploads[file["token"]]
            if not upload.file.is_file() or upload.file.stat().st_size != upload.wanted:
                raise Refused(400, f"{upload.name} has not arrived")
            shutil.copyfile(upload.file, place / upload.name)
        (place / "dataset-metadata.json").write_text(json.dumps(told))
        self.datasets.setdefault(ref, []).append(place)
        return {"status": "ok", "ref": ref, "url": f"https://www.kaggle.com/datasets/{ref}"}

    def _kernels_SaveKernel(self, body, user):
        ref = body["slug"]
        if ref.partition("/")[0] != user or len(body["text"]) > 1_000_000:
            return {"error": f"{ref} is not yours, or too long"}
        sources = {kind: body.get(f"{kind}DataSources", []) for kind in SOURCES}
        bad = {kind: [name for name in names if not self._knows(kind, name)] for kind, names in sources.items()}
        versions = self.sessions.setdefault(ref, [])
        number = len(versions) + 1
        place, slug = self.root / "kernels" / ref / str(number), ref.partition("/")[2]
        place.mkdir(parents=True)
        (place / f"{slug}.ipynb").write_text(body["text"])
        told = {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in body.items()}  # enableGpu: enable_gpu
        told = {key: told.get(key) for key in KERNEL_KEYS - {"id_no"}} | {
            "id": ref, "title": body["newTitle"], "code_file": f"{slug}.ipynb", "keywords": body.get("categoryIds", []),
            **{key: told.get(key, key == "enable_internet") for key in KERNEL_KEYS if key[:3] in ("ena", "is_")},
            **{f"{kind}_sources": names for kind, names in sources.items()},
        }  # fmt: skip
        (place / "kernel-metadata.json").write_text(json.dumps(told, indent=2))
        versions.append(Session(place, self.root / "outputs" / ref / str(number), [*self.states]))
        invalid = {f"invalid{kind.capitalize()}Sources": names for kind, names in bad.items()}
        url = f"https://www.kaggle.com/code/{ref}"
        return {"ref": f"/code/{ref}", "url": url, "versionNumber": number, "error": "", "invalidTags": [], **invalid}

    def _knows(self, kind: str, name: str) -> bool:
        ref, version = "/".join(name.split("/")[:2]), (*name.split("/")[2:3], "1")[0]
        known = {"dataset": self.datasets, "kernel": self.sessions}.get(kind)
        if known is not None:
            return len(known.get(ref, [])) >= int(version)
        return kind == "model" or name in self.competitions

    def _session(self, body) -> Session:
        ref = f"{body['userName']}/{body['kernelSlug']}"
        if ref not in self.sessions:
            raise Refused(403, "Permission 'kernels.get' was denied")
        return self.sessions[ref][-1]

    def _kernels_GetKernelSessionStatus(self, body, user):
        session = self._session(body)
        if session.states:
            session.state = session.states.pop(0)
        elif session.state in ("QUEUED", "RUNNING"):
            session.output.mkdir(parents=True)
            try:
                session.log, session.state = self.run(session.folder, session.output), "COMPLETE"
            except Exception as error:
                session.state, session.failure = "ERROR", str(error)
                session.log = json.dumps([{"stream_name": "stderr", "time": 1.5, "data": f"{error!r}\n"}])
        return {"status": session.state, "failureMessage": session.failure}

    def _kernels_ListKernelSessionOutput(self, body, user):
        session, begin = self._session(body), int(body.get("pageToken") or 0)
        files = sorted(path for path in session.output.rglob("*") if path.is_file())
        page = files[begin : begin + self.page]
        named = [{"fileName": file.relative_to(session.output).as_posix(), "url": self._url(file)} for file in page]
        rest = {"nextPageToken": str(begin + self.page)} if begin + self.page < len(files) else {}
        return {"files": named, "log": session.log, **rest}

    def _url(self, file: Path) -> str:
        return f"{self.address}/files/{file.relative_to(self.root).as_posix()}"
