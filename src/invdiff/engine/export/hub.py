"""Publishing an exported adapter: what would be uploaded, and the upload."""

from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import validate_repo_id

from invdiff.errors import ConfigError, RunError

SITE = "https://huggingface.co"


@dataclass(frozen=True)
class Upload:
    """Files of ``folder`` (relative path, bytes) that go to the model repository ``repo``."""

    folder: Path
    repo: str
    private: bool
    files: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        kind = "private" if self.private else "public"
        lines = [f"{size:>14,} bytes  {name}" for name, size in self.files]
        total = sum(size for _, size in self.files)
        lines = [f"to the {kind} model repository {self.repo}:", *lines, f"{total:>14,} bytes"]
        if not self.private and any(name.endswith("report.html") for name, _ in self.files):
            lines.append("everybody will see the training pictures and captions in report.html")
        return "\n".join(lines)


def upload_plan(folder: Path, repo: str, private: bool = False) -> Upload:
    """What :func:`push` would upload; touches no network."""
    require_name(repo)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = tuple((path.relative_to(folder).as_posix(), path.stat().st_size) for path in files)
    return Upload(folder, repo, private, sizes)


def require_name(repo: str) -> None:
    """ConfigError unless ``repo`` can name a repository."""
    try:
        validate_repo_id(repo)
    except ValueError as error:
        raise ConfigError(f"{repo!r} cannot be a repository ({error}): give OWNER/NAME") from None
    if repo.count("/") != 1:
        raise ConfigError(f"{repo!r} names no owner: give OWNER/NAME")


def push(upload: Upload) -> str:
    """Make the repository if it is not there, upload, and give back its address."""
    try:
        client = huggingface_hub.HfApi()
        client.create_repo(upload.repo, private=upload.private, exist_ok=True)
        client.upload_folder(
            repo_id=upload.repo,
            folder_path=str(upload.folder),
            commit_message="Upload an InvDiff adapter",
        )
    except Exception as error:  # no network, no token, no right: all for the user to mend
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(
            f"nothing was published at {upload.repo} ({reason}): `hf auth login`, then the same "
            f"files go up with `hf upload {upload.repo} {upload.folder}`"
        ) from error
    return address(upload.repo)


def address(repo: str, file: str = "") -> str:
    """Where a repository, or a file in it, is read."""
    return f"{SITE}/{repo}" + (f"/blob/main/{file}" if file else "")
