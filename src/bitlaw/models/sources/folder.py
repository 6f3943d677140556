"""Models in folders: whether one can be used, its identity, and hashes that are not made twice."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from bitlaw.artifacts import replace_file
from bitlaw.errors import UserError
from bitlaw.models.files import WEIGHT_FILES, model_files, n_tokens, read_object
from bitlaw.models.sources.base import ModelSpec

# A file as young as this can change again without a new time stamp, so its hash is not kept.
_YOUNG_SECONDS = 2.0


def folder_spec(folder: Path, name: str, source: str, hashes: FileHashes) -> ModelSpec:
    """Return the model in ``folder``.

    Where a folder lies says nothing of its weights: equal files give equal identities, whatever the source.

    Raises:
        UserError: as ``check_folder``.
    """
    config = check_folder(folder)
    return ModelSpec(
        name=name,
        identity={"source": "folder", "files": hashes.of_model(folder)},
        location={"pretrained": str(folder.resolve()), "revision": None, "trust_remote_code": False},
        labels={"source": source, "family": config.get("model_type"), "n_tokens": n_tokens(folder)},
    )


def check_folder(folder: Path) -> dict[str, Any]:
    """Return the configuration of the model in ``folder`` after checking that it can be used.

    Reads no weights and imports no library: what can be seen from the files.

    Raises:
        UserError: no folder, no ``config.json``, no safetensors, missing shards, quantized already, or no causal
            language model.
    """
    place = str(folder)
    if not folder.is_dir():
        raise UserError("no such folder", place=place)
    if not (folder / "config.json").is_file():
        raise UserError("no config.json there: not a Hugging Face model folder", place=place)
    config = read_object(folder / "config.json")
    if not any(folder.glob(WEIGHT_FILES)):
        if any(path.suffix in (".bin", ".pt", ".pth", ".ckpt") for path in folder.iterdir()):
            raise UserError(
                "only pickle weights (.bin), which can run code when loaded; convert them once with transformers: "
                "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)",
                place=place,
            )
        raise UserError("no *.safetensors weights there", place=place)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = set(read_object(index).get("weight_map", {}).values())
        missing = sorted(shard for shard in shards if not (folder / shard).exists())
        if missing:
            raise UserError(
                f"{len(missing)} of {len(shards)} weight files are missing, the first is {missing[0]}", place=place
            )
    if "quantization_config" in config:
        raise UserError("the model is quantized already; give the original one", place=place)
    names = config.get("architectures") or []
    if config.get("is_encoder_decoder") or not any(n.endswith(("ForCausalLM", "LMHeadModel")) for n in names):
        said = ", ".join(names) or str(config.get("model_type", "nothing"))
        raise UserError(f"not a causal language model: architectures says {said}", place=str(folder / "config.json"))
    return config


class FileHashes:
    """SHA-256 of files, remembered by path, size, time stamp and inode in ``<root>/.bitlaw/hashes.json``.

    Planning asks for the hash of every weight file each time; only files that changed are read again. Used in a
    ``with`` block, at the end of which new hashes are stored. A file of hashes that cannot be read is made anew.
    """

    def __init__(self, root: Path) -> None:
        self._store = root / ".bitlaw" / "hashes.json"
        self._known = self._read()
        self._changed = False

    def __enter__(self) -> FileHashes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._changed:
            replace_file(self._store, json.dumps(self._known, indent=0, sort_keys=True).encode())
            self._changed = False

    def of(self, path: Path) -> str:
        """Return the SHA-256 of the file at ``path`` in hexadecimal."""
        stat = path.stat()
        name, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(name)
        if known is not None and known[:3] == state:
            return str(known[3])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - stat.st_mtime > _YOUNG_SECONDS:
            self._known[name] = [*state, digest]
            self._changed = True
        return digest

    def of_model(self, folder: Path) -> dict[str, str]:
        """Return the SHA-256 of each file that determines the model in ``folder``, by file name."""
        return {path.name: self.of(path) for path in model_files(folder)}

    def _read(self) -> dict[str, list[Any]]:
        try:
            stored = json.loads(self._store.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(stored, dict):
            return {}
        return {k: v for k, v in stored.items() if isinstance(v, list) and len(v) == 4 and _is_sha256(v[3])}


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
