"""Models from the Hugging Face hub, at an exact revision, or one line that says how to get them without network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bitlaw.errors import UserError
from bitlaw.models.files import WEIGHT_FILES

_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt"]


@lru_cache(maxsize=64)
def download(repo: str, revision: str, *, code: bool = False) -> Path:
    """Return the folder of ``repo`` at ``revision`` in the local Hugging Face cache, downloading what is missing.

    A revision does not change, so the hub is asked once in a process.

    Args:
        repo: such as ``EleutherAI/pythia-70m``.
        revision: a commit or tag.
        code: whether Python files are needed too (``trust_remote_code``).

    Raises:
        UserError: no network, no such model or revision, no permission, or no safetensors weights.
    """
    from huggingface_hub import logging, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    logging.set_verbosity_error()  # it would print a line for each of its tries; the error below says it all
    place = f"{repo}@{revision}"
    patterns = [*_PATTERNS, "*.py"] if code else _PATTERNS
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except GatedRepoError:
        raise UserError(
            "the hub asks for permission: accept its licence there, then 'hf auth login'", place=place
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"'{repo}' has no revision '{revision}' on the hub", place=place) from None
    except RepositoryNotFoundError:
        raise UserError(f"the hub has no model '{repo}', or it is private", place=place) from None
    except (LocalEntryNotFoundError, HfHubHTTPError):
        raise _unreachable(repo, revision) from None
    except Exception as error:
        # A broken proxy comes through as an error of the HTTP library, which differs between versions of the hub's.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "requests"):
            raise
        raise _unreachable(repo, revision) from None
    if not (folder / "config.json").exists():
        raise _unreachable(repo, revision)
    if not any(folder.glob(WEIGHT_FILES)):
        raise UserError(
            "no *.safetensors weights at this revision; choose a revision that has them, or convert the model to a "
            "folder and use 'source: path'",
            place=place,
        )
    return folder


def _unreachable(repo: str, revision: str) -> UserError:
    return UserError(
        f"the model is not on this machine and the hub cannot be reached; on a machine with network run "
        f"'hf download {repo} --revision {revision}' and bring its cache here (HF_HOME), or save it in a folder and "
        f"use 'source: path'",
        place=f"{repo}@{revision}",
    )
