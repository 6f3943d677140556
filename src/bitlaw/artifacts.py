"""Reading and writing artifacts: JSON, safetensors and Parquet files that carry a header and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw import held
from bitlaw.errors import DamagedArtifactError
from bitlaw.stage import Header

if TYPE_CHECKING:
    import pandas as pd
    import torch


def canonical(value: Any) -> str:
    """Return the one JSON text of ``value``: sorted keys, no blanks, ASCII.

    Raises ``ValueError`` for NaN and infinity and ``TypeError`` for what JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _result_text(result: Any) -> str:
    # A loss may be NaN or infinite and is stored as such: Python's JSON reads and writes both.
    return json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def write_json(path: Path, header: Header, result: Any) -> None:
    """Write ``result`` (plain JSON values; NaN and infinities allowed) with its header and checksum to ``path``."""
    head = asdict(header)
    document = {"header": {**head, "sha256": _json_sum(head, result)}, "result": result}
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Return the result stored in ``path``.

    Raises ``DamagedArtifactError`` if the file does not parse or its checksum does not match.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        head, result = document["header"], document["result"]
        if head.pop("sha256") == _json_sum(head, result):
            return result
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise _damaged(path)


def write_tensors(path: Path, header: Header, tensors: Mapping[str, torch.Tensor], result: Any) -> None:
    """Write ``tensors`` (any shape, dtype and device) and ``result`` (JSON values) as one safetensors file.

    Equal tensors, results and headers give equal bytes. Where the artifact is to be held in memory (see
    ``bitlaw.held``) nothing is written. Raises ``OSError`` where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    head = asdict(header)
    if held.take(path, tensors, {"header": head, "result": result}):
        return
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    document = {"header": {**head, "sha256": _tensor_sum(head, ordered, result)}, "result": result}
    try:
        # One entry, for safetensors writes several in random order.
        save_file(ordered, path, metadata={"bitlaw": _result_text(document)})
    except SafetensorError as error:
        if (cause := _of_the_system(error, path)) is not None:
            raise cause from error
        raise


def _of_the_system(error: Exception, path: Path) -> OSError | None:
    """Return the error of the operating system, such as a full disk, that safetensors reports in words of its own."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path)) if found else None


def read_tensors(path: Path) -> tuple[Mapping[str, torch.Tensor], Any]:
    """Return the tensors, not to be changed, and the result stored in ``path``, as ``write_tensors`` was given them.

    Raises ``DamagedArtifactError`` if the file does not parse or its checksum does not match.
    """
    from safetensors import SafetensorError, safe_open

    if (content := held.get(path)) is not None:
        return content.tensors, content.document["result"]
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        document = json.loads(meta["bitlaw"])
        head, result = document["header"], document["result"]
        if head.pop("sha256") == _tensor_sum(head, tensors, result):
            return tensors, result
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        pass
    raise _damaged(path)


def read_tensors_result(path: Path) -> Any:
    """Return only the result stored in ``path``, reading no tensor and checking no checksum of them.

    Raises ``DamagedArtifactError`` if the file does not parse.
    """
    from safetensors import SafetensorError, safe_open

    if (content := held.get(path)) is not None:
        return content.document["result"]
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})["bitlaw"])["result"]
    except (ValueError, KeyError, TypeError, SafetensorError):
        raise _damaged(path) from None


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of the JSON or safetensors artifact in ``path``: ``Header``'s fields and ``sha256``.

    It checks no checksum; ``read_json`` and ``read_tensors`` do, for the header too. Raises ``DamagedArtifactError`` if
    the file does not parse.
    """
    from safetensors import SafetensorError, safe_open

    if (content := held.get(path)) is not None:
        return dict(content.document["header"])
    try:
        if path.suffix == ".json":
            header: dict[str, Any] = json.loads(path.read_text("utf-8"))["header"]
        else:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["bitlaw"])["header"]
        return header
    except (ValueError, KeyError, TypeError, SafetensorError):
        raise _damaged(path) from None


def write_table(path: Path, header: Header, table: pd.DataFrame) -> None:
    """Write ``table`` as Parquet with page checksums; equal tables give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), b"bitlaw": canonical(asdict(header)).encode()}
    )
    pq.write_table(arrow, path, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> pd.DataFrame:
    """Return the table in ``path``. Raises ``DamagedArtifactError`` if a page's checksum does not match."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path) from None
    table: pd.DataFrame = arrow.to_pandas()
    return table


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` through a temporary name, so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _json_sum(head: Mapping[str, Any], result: Any) -> str:
    return sha256(f"{canonical(head)} {_result_text(result)}".encode())


def _tensor_sum(head: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], result: Any) -> str:
    import torch

    digest = hashlib.sha256(_json_sum(head, result).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path) -> DamagedArtifactError:
    return DamagedArtifactError(
        "damaged: its content does not match its checksum; delete it and run again", place=str(path)
    )
