"""From settings to models: identities, names, labels and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bitlaw.errors import UserError
from bitlaw.models.sources import SOURCES, folder
from bitlaw.models.sources.folder import FileHashes

Saved = Callable[[str], Path]


def resolve(root: Path, **fields: Any) -> Any:
    source = SOURCES[fields["source"]]
    return source.resolve(source.Settings.model_validate(fields), root)


@pytest.fixture
def root(saved: Saved, tmp_path: Path) -> Path:
    """A project with a zoo of three models and a model of the user's."""
    for name, family in (("gpt2-a", "gpt2"), ("gpt2-b", "gpt2"), ("llama-a", "llama")):
        shutil.copytree(saved(family), tmp_path / "data" / "zoo" / name)
    (tmp_path / "data" / "zoo" / "gpt2-b" / "recipe.json").write_text('{"n_tokens": 5000, "seconds": 3}')
    shutil.copytree(saved("gpt2"), tmp_path / "mine" / "my-model")
    return tmp_path


def test_planning_imports_no_heavy_library() -> None:
    code = (
        "import sys; from bitlaw.models.sources import SOURCES\n"
        "for name in ('path', 'zoo', 'hub', 'gguf'): SOURCES[name]\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'sklearn', 'datasets', 'huggingface_hub', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_zoo_names_and_patterns(root: Path) -> None:
    def names(**fields: Any) -> list[str]:
        return [spec.name for spec in resolve(root, source="zoo", **fields)]

    assert names() == ["gpt2-a", "gpt2-b", "llama-a"]
    assert names(name="gpt2-*") == ["gpt2-a", "gpt2-b"]
    assert names(name=["llama-a", "*-a"]) == ["llama-a", "gpt2-a"]
    with pytest.raises(UserError, match="unknown zoo model 'gpt-a'; did you mean 'gpt2-a'"):
        names(name="gpt-a")


def test_zoo_labels(root: Path) -> None:
    a, b = resolve(root, source="zoo", name="gpt2-*")
    assert a.labels == {"source": "zoo", "family": "gpt2", "n_tokens": None}
    assert b.labels == {"source": "zoo", "family": "gpt2", "n_tokens": 5000}
    (root / "data" / "zoo" / "gpt2-b" / "recipe.json").write_text('{"n_tokens": "many"}')
    with pytest.raises(UserError, match="not a whole number"):
        resolve(root, source="zoo", name="gpt2-b")


def test_path(root: Path) -> None:
    (spec,) = resolve(root, source="path", path="mine/my-model")
    assert spec.name == "my-model"
    assert spec.location["pretrained"] == str((root / "mine" / "my-model").resolve())
    assert spec.labels == {"source": "path", "family": "gpt2", "n_tokens": None}
    (named,) = resolve(root, source="path", path=str(root / "mine/my-model"), name="x", family="f", n_tokens=0)
    assert (named.name, named.labels) == ("x", {"source": "path", "family": "f", "n_tokens": 0})
    assert named.identity == spec.identity


def test_equal_files_have_equal_identities_wherever_they_lie(root: Path) -> None:
    (zoo,) = resolve(root, source="zoo", name="gpt2-a")
    (path,) = resolve(root, source="path", path="mine/my-model")
    assert zoo.identity == path.identity
    assert set(path.identity["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    folder = root / "mine" / "my-model"
    (folder / "README.md").write_text("notes")
    assert resolve(root, source="path", path="mine/my-model")[0].identity == path.identity
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data + b" ")
        assert resolve(root, source="path", path="mine/my-model")[0].identity != path.identity
        (folder / name).write_bytes(data)


def refused(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        resolve(root, source="path", path="mine/my-model")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)
    return str(caught.value)


def test_folders_that_cannot_be_used(root: Path) -> None:
    folder = root / "mine" / "my-model"
    config = json.loads((folder / "config.json").read_text())

    def with_config(**fields: Any) -> str:
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return refused(root)

    assert "BertForMaskedLM" in with_config(architectures=["BertForMaskedLM"])
    assert "not a causal" in with_config(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    assert "not a causal" in with_config(architectures=None)
    assert "quantized already" in with_config(quantization_config={"quant_method": "awq"})
    (folder / "config.json").write_text("{")
    assert "not JSON" in refused(root)
    (folder / "config.json").write_text("[]")
    assert "not a JSON object" in refused(root)
    (folder / "config.json").write_text(json.dumps(config))
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "1 of 2 weight files are missing, the first is model-2.safetensors" in refused(root)
    (folder / "model.safetensors").unlink()
    assert "no *.safetensors weights" in refused(root)
    (folder / "pytorch_model.bin").touch()
    assert "pickle" in refused(root) and "save_pretrained" in refused(root)
    (folder / "config.json").unlink()
    assert "no config.json" in refused(root)
    shutil.rmtree(folder)
    assert "no such folder" in refused(root)


def test_hub(tmp_path: Path) -> None:
    commit = "e93a9faa9c77e5d09219f6c868bfc7a1bd65593c"
    (spec,) = resolve(tmp_path, source="hub", repo="EleutherAI/pythia-70m", revision=commit, n_tokens=7)
    assert spec.name == "pythia-70m"
    assert spec.identity == {"source": "hub", "repo": "EleutherAI/pythia-70m", "revision": commit}
    assert spec.location == {"pretrained": "EleutherAI/pythia-70m", "revision": commit, "trust_remote_code": False}
    assert spec.labels == {"source": "hub", "family": None, "n_tokens": 7}
    with pytest.raises(ValidationError, match="revision"):
        resolve(tmp_path, source="hub", repo="EleutherAI/pythia-70m")
    with pytest.raises(ValidationError, match="branch that moves"):
        resolve(tmp_path, source="hub", repo="EleutherAI/pythia-70m", revision="main")


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    for fields in ({"source": "zoo", "names": "a"}, {"source": "path", "path": "a", "revision": "b"}):
        with pytest.raises(ValidationError, match="Extra inputs"):
            resolve(tmp_path, **fields)


def test_gguf_identity(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF and more")
    (spec,) = resolve(tmp_path, source="gguf", path="tiny.gguf")
    assert (spec.name, spec.location["payload"], spec.location["gguf_file"]) == ("tiny", True, str(file.resolve()))
    file.write_bytes(b"GGUF and less")
    assert resolve(tmp_path, source="gguf", path="tiny.gguf")[0].identity != spec.identity
    file.write_bytes(b"PK")
    with pytest.raises(UserError, match="not a GGUF file"):
        resolve(tmp_path, source="gguf", path="tiny.gguf")
    with pytest.raises(UserError, match="no such file"):
        resolve(tmp_path, source="gguf", path="other.gguf")


def aged(path: Path, data: bytes, seconds: float = 1000.0) -> None:
    path.write_bytes(data)
    os.utime(path, (1e9 + seconds, 1e9 + seconds))


def hashed(root: Path, path: Path) -> str:
    with FileHashes(root) as hashes:
        return hashes.of(path)


def test_hashes_are_remembered_and_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = tmp_path / "weights", tmp_path / ".bitlaw" / "hashes.json"
    aged(path, b"one")
    first = hashed(tmp_path, path)
    monkeypatch.setattr(folder.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert hashed(tmp_path, path) == first
    monkeypatch.undo()
    aged(path, b"two", seconds=1001.0)
    second = hashed(tmp_path, path)
    assert second != first
    for broken in ("", "{", "[]", '{"x": 1}', json.dumps({str(path.resolve()): [3, 0, 0, "zz"]})):
        store.write_text(broken)
        assert hashed(tmp_path, path) == second
        assert json.loads(store.read_text())[str(path.resolve())][3] == second


def test_a_young_file_is_hashed_every_time(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    stat = path.stat()
    first = hashed(tmp_path, path)
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashed(tmp_path, path) != first
