"""What the hub tells of a model without its weights: the configuration, if it can be had in seconds."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 3.0
"""How long the hub may take to answer at all; its own client tries for half a minute."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_name(name: str) -> bool:
    """Return whether ``name`` can be a repository of the hub, ``owner/name``."""
    return _NAME.fullmatch(name) is not None


def endpoint() -> str:
    """Return the address of the hub: ``$HF_ENDPOINT``, else the public one."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def unreachable(seconds: float = SECONDS) -> str | None:
    """Return why the hub gives no answer within ``seconds``, or ``None`` if it answers."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(endpoint(), method="HEAD")  # noqa: S310 (the user's own address)
    try:
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
            return None
    except urllib.error.HTTPError:
        return None  # it answers
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def configuration(repo: str) -> Path | None:
    """Return the folder that holds ``config.json`` of a repository, from the local cache or the hub.

    The folder's name is the commit. ``None`` if there is none, or it cannot be had.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cached = try_to_load_from_cache(repo, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    if unreachable() is not None:
        return None
    try:
        return Path(hf_hub_download(repo, "config.json", etag_timeout=SECONDS)).parent
    except (HfHubHTTPError, LocalEntryNotFoundError):
        return None
