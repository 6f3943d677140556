"""Artifacts: one text for one value, checksums that see every damage, and files that are whole or not there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitlaw.artifacts import (
    canonical,
    read_header,
    read_json,
    read_table,
    read_tensors,
    read_tensors_result,
    replace_file,
    write_json,
    write_table,
    write_tensors,
)
from bitlaw.errors import DamagedArtifactError
from bitlaw.stage import Header

HEADER = Header("quantize", "k" * 32, {"format": "int4_b64", "settings": {"damping": 0.01}}, {"model": ["m" * 32]}, "c")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
in_tmp = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def shuffled(value: Any, turn: Callable[[list[Any]], list[Any]]) -> Any:
    """Return an equal value whose mappings were filled in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], turn) for key in turn(list(value))}
    return [shuffled(item, turn) for item in value] if isinstance(value, list) else value


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_keys_never_matters(value: Any, random: Any) -> None:
    def turn(keys: list[Any]) -> list[Any]:
        random.shuffle(keys)
        return keys

    assert canonical(shuffled(value, turn)) == canonical(value)


@given(values, values)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    same = json.loads(canonical(one)) == json.loads(canonical(other))
    # True == 1 == 1.0 in Python, but they are three values to JSON and so to a key.
    if not same:
        assert canonical(one) != canonical(other)
    assert canonical(json.loads(canonical(one))) == canonical(one)


def test_values_that_python_takes_for_equal_differ() -> None:
    assert len({canonical(value) for value in (True, 1, 1.0, "1", [1], None, 0, -0.0, 0.0, "", [], {})}) == 12


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_a_key_is_never_made_of_nan(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(value)


def test_a_key_is_never_made_of_objects() -> None:
    with pytest.raises(TypeError):
        canonical({"path": Path("a")})


@given(values)
@in_tmp
def test_json_comes_back(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "a.json", HEADER, value)
    assert canonical(read_json(tmp_path / "a.json")) == canonical(value)


def test_json_keeps_losses_that_are_no_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", HEADER, {"nll": math.nan, "worst": [math.inf, -math.inf]})
    result = read_json(tmp_path / "a.json")
    assert math.isnan(result["nll"])
    assert result["worst"] == [math.inf, -math.inf]


def test_headers_say_what_the_artifact_is(tmp_path: Path) -> None:
    import torch

    write_json(tmp_path / "a.json", HEADER, 1)
    write_tensors(tmp_path / "a.safetensors", HEADER, {"x": torch.ones(3)}, 1)
    for path in (tmp_path / "a.json", tmp_path / "a.safetensors"):
        header = read_header(path)
        assert re.fullmatch("[0-9a-f]{64}", header.pop("sha256"))
        assert Header(**header) == HEADER


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


@given(st.data())
@in_tmp
def test_a_flipped_bit_in_json_is_seen_or_means_nothing(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.json"
    write_json(path, HEADER, {"nll": 3.25, "window_nll": [1.5, 2.0], "name": "gpt2"})
    whole, good, header = path.read_bytes(), read_json(path), read_header(path)
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(flipped(whole, place, data.draw(st.integers(0, 7))))
    try:
        result = read_json(path)
    except DamagedArtifactError as error:
        assert error.place == str(path)
    else:
        assert (result, read_header(path)) == (good, header)


@given(st.data())
@in_tmp
def test_a_flipped_bit_in_tensors_is_seen_or_means_nothing(tmp_path: Path, data: st.DataObject) -> None:
    import torch

    path = tmp_path / "a.safetensors"
    tensors = {"codes": torch.arange(24, dtype=torch.uint8), "scales": torch.linspace(0, 1, 7).half()}
    write_tensors(path, HEADER, tensors, {"sqnr_db": 20.5})
    whole, header = path.read_bytes(), read_header(path)
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(flipped(whole, place, data.draw(st.integers(0, 7))))
    try:
        found, result = read_tensors(path)
    except DamagedArtifactError:
        return
    assert result == {"sqnr_db": 20.5}
    assert read_header(path) == header
    assert {name: tensor.tolist() for name, tensor in found.items()} == {n: t.tolist() for n, t in tensors.items()}


def test_equal_tensors_are_equal_bytes(tmp_path: Path) -> None:
    import torch

    tensors = {name: torch.arange(4.0) for name in "abcdef"}
    names = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for i, path in enumerate(names):
        write_tensors(path, HEADER, dict(list(tensors.items())[i:] + list(tensors.items())[:i]), {"nll": [math.nan, 1]})
    assert len({path.read_bytes() for path in names}) == 1


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, -1])
def test_a_cut_file_is_damaged(tmp_path: Path, length: int) -> None:
    import pandas as pd
    import torch

    write_json(tmp_path / "a.json", HEADER, {"nll": 1.0})
    write_tensors(tmp_path / "a.safetensors", HEADER, {"x": torch.ones(50)}, {})
    write_table(tmp_path / "a.parquet", HEADER, pd.DataFrame({"nll": [1.0] * 50}))
    for name, reads in (
        ("a.json", (read_json, read_header)),
        ("a.safetensors", (read_tensors, read_header, read_tensors_result)),
        ("a.parquet", (read_table,)),
    ):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:length])
        for read in reads:
            if length == -1 and read in (read_header, read_tensors_result) and name == "a.safetensors":
                read = read_tensors  # the head is whole, the tensors are not
            if (name, length) == ("a.json", -1):
                assert read(path)  # the line end that closes the file
                continue
            with pytest.raises(DamagedArtifactError, match="damaged"):
                read(path)


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    for read, name in ((read_json, "a.json"), (read_tensors, "a.safetensors"), (read_table, "a.parquet")):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / name)


def test_equal_tables_are_equal_bytes_and_a_changed_page_is_seen(tmp_path: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"nll": [0.5 * i for i in range(500)], "model": ["gpt2-0.1m"] * 500})
    write_table(tmp_path / "a.parquet", HEADER, table)
    write_table(tmp_path / "b.parquet", HEADER, table.copy())
    data = (tmp_path / "a.parquet").read_bytes()
    assert data == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "a.parquet").astype({"model": object}), table.astype({"model": object})
    )
    (tmp_path / "a.parquet").write_bytes(flipped(data, len(data) // 4, 3))
    with pytest.raises(DamagedArtifactError):
        read_table(tmp_path / "a.parquet")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    replace_file(tmp_path / "new" / "a", b"one")
    replace_file(tmp_path / "new" / "a", b"two")
    with pytest.raises(TypeError):
        replace_file(tmp_path / "new" / "a", "no bytes")  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
    assert (tmp_path / "new" / "a").read_bytes() == b"two"


def test_a_full_disk_is_the_systems_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import errno

    import safetensors.torch
    from safetensors import SafetensorError

    said = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(*_: object, **__: object) -> None:
        raise SafetensorError(said)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left") as found:
        write_tensors(tmp_path / "a.safetensors", Header("s", "k", {}, {}, "c"), {}, {})
    assert found.value.errno == errno.ENOSPC and found.value.filename == str(tmp_path / "a.safetensors")
    said = "Error while serializing: something else"
    with pytest.raises(SafetensorError, match="something else"):
        write_tensors(tmp_path / "a.safetensors", Header("s", "k", {}, {}, "c"), {}, {})
