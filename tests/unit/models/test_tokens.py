"""Tokens and their bytes."""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.errors import UserError
from bitlaw.models import tokens as module
from bitlaw.models.load import load_tokenizer
from bitlaw.models.tokens import check_fits, encode, encode_stream, read_text, tokens_of
from projects import ZOO
from tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TEXT = st.text(st.sampled_from("ab the\n\t ïé漢🙂\u0301\x7f\x80\u07ff\u0800\uffff\U00010000"), min_size=1, max_size=60)


@given(TEXT)
def test_all_bytes_are_counted_once(text: str) -> None:
    tokens = encode(TOKENIZER, text)
    n = len(text.encode())
    assert TOKENIZER.decode(tokens.ids) == text
    assert tokens.n_bytes(0, len(tokens)) == n
    assert (tokens.ends.diff() >= 0).all()
    assert sum(tokens.n_bytes(i, i + 1) for i in range(len(tokens))) == n
    assert tokens.n_bytes(1, len(tokens)) == n - tokens.n_bytes(0, 1)


@given(TEXT)
def test_ends_are_those_of_the_decoded_tokens(text: str) -> None:
    # A byte-level token is its bytes; inside a character that is cut apart, the first token has all its bytes.
    tokens = encode(TOKENIZER, text)
    position = 0
    for i, token in enumerate(tokens.ids.tolist()):
        position += len(TOKENIZER.convert_ids_to_tokens(token))
        whole = text.encode()[:position].decode(errors="ignore").encode()
        if len(whole) == position:
            assert tokens.ends[i] == position
        else:
            assert tokens.ends[i] >= position


def test_some_tokens_only() -> None:
    text = "the model reads 漢字 and says the text"
    whole, part = encode(TOKENIZER, text), encode(TOKENIZER, text, 9)
    assert part.ids.tolist() == whole.ids.tolist()[:9]
    assert part.ends.tolist() == whole.ends.tolist()[:9]


def test_a_token_without_place_has_no_bytes() -> None:
    # Tokenizers that put in a blank of their own give it the place (0, 0).
    def odd(text: str, **options: bool) -> dict[str, list[object]]:
        return {"input_ids": [5, 6, 7, 8], "offset_mapping": [(0, 1), (0, 0), (1, 1), (1, 3)]}

    tokens = encode(odd, "ab漢")
    assert [tokens.n_bytes(i, i + 1) for i in range(4)] == [1, 0, 0, 4]


def test_no_special_token_is_added() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    bare = tokenizer("the text")["input_ids"]
    begin = ("<|end|>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|end|> $A", special_tokens=[begin])
    assert tokenizer("the text")["input_ids"] == [tokenizer.bos_token_id, *bare]
    assert encode(tokenizer, "the text").ids.tolist() == bare


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_texts_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    assert read_text(path, write(path, "naïve\r\n".encode())) == "naïve\r\n"
    with pytest.raises(UserError, match="the text has changed"):
        read_text(path, "0" * 64)
    with pytest.raises(UserError, match="the text is empty"):
        read_text(path, write(path, b" \n\t"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_text(path, write(path, b"\xff\xfe"))


def test_tokens_are_kept_by_model_and_text(saved: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    sha = write(path, b"the model reads a text")
    location = {"pretrained": str(saved("gpt2")), "revision": None}
    tokens = tokens_of(location, path, sha)
    assert tokens_of(dict(location), path, sha) is tokens
    assert len(tokens_of(location, path, sha, 3)) == 3
    other = write(path, b"the token reads a text")
    assert tokens_of(location, path, other).ids.tolist() != tokens.ids.tolist()


def test_windows_and_tokens_must_fit_the_model() -> None:
    tokens = encode(TOKENIZER, "the model")
    check_fits(tokens.ids, {"context": 64, "vocab_size": 320}, 64, "window")
    check_fits(tokens.ids, {"context": None, "vocab_size": 320}, 10**6, "window")
    with pytest.raises(UserError, match="window is 65 tokens, but the model's context is 64"):
        check_fits(tokens.ids, {"context": 64, "vocab_size": 320}, 65, "window")
    with pytest.raises(UserError, match="belongs to another model"):
        check_fits(tokens.ids, {"context": 64, "vocab_size": 10}, 64, "window")


@pytest.mark.parametrize("max_tokens", [1, 7, 50, 400])
def test_the_first_tokens_are_those_of_the_whole_text(max_tokens: int) -> None:
    text = "the model reads a text " * 200
    whole, part = encode(TOKENIZER, text), encode(TOKENIZER, text, max_tokens)
    assert part.ids.tolist() == whole.ids[:max_tokens].tolist()
    assert part.ends.tolist() == whole.ends[:max_tokens].tolist()


@pytest.mark.parametrize(
    "piece, overlap, margin, run", [(64, 16, 8, 3), (200, 60, 20, 4), (40, 4, 30, 16), (7, 1, 3, 2)]
)
@given(text=st.text(st.sampled_from("ab thelkyo ing\n\t=ïé漢🙂\u0301"), min_size=1, max_size=600))
def test_pieces_make_the_tokens_of_the_whole(piece: int, overlap: int, margin: int, run: int, text: str) -> None:
    whole = encode(TOKENIZER, text)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("PIECE", piece), ("OVERLAP", overlap), ("MARGIN", margin), ("RUN", run)):
            patch.setattr(module, name, value)
        parts = encode_stream(TOKENIZER, io.StringIO(text, newline=""))
        few = encode_stream(TOKENIZER, io.StringIO(text, newline=""), 9)
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.ends.tolist() == whole.ends.tolist()
    assert few.ids.tolist() == whole.ids.tolist()[:9]
    assert few.ends.tolist() == whole.ends.tolist()[:9]


@pytest.mark.parametrize("name", ["gpt2-0.1m", "llama-0.1m"])
def test_pieces_of_real_text_with_a_real_tokenizer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer({"pretrained": str(ZOO / name), "revision": None})
    text = Path(argparse.__file__).read_text("utf-8") + "naïve 漢字 🙂 " * 50
    whole = encode(tokenizer, text)
    for value in (900, 5000, 70_000):
        monkeypatch.setattr(module, "PIECE", value)
        monkeypatch.setattr(module, "OVERLAP", 300)
        parts = encode(tokenizer, text)
        assert parts.ids.tolist() == whole.ids.tolist() and parts.ends.tolist() == whole.ends.tolist()


def test_a_tokenizer_that_puts_a_blank_before_the_text() -> None:
    # As Llama's does: each piece but the first begins with a token that the whole text does not have.
    from tokenizers import pre_tokenizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    text = "the model reads a text and says how likely each token is; naïve café 漢字 " * 40
    whole = encode(tokenizer, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 500)
        patch.setattr(module, "OVERLAP", 100)
        patch.setattr(module, "MARGIN", 20)
        assert encode(tokenizer, text).ids.tolist() == whole.ids.tolist()


def test_a_long_text_is_read_no_further_than_needed_and_never_held_whole(saved: Callable[[str], Path]) -> None:
    code = """
        import hashlib, pathlib, resource, sys
        from bitlaw.models.tokens import tokens_of
        path, model = pathlib.Path(sys.argv[1]), {"pretrained": sys.argv[2], "revision": None}
        line = "the model reads a text and says how likely each token is\\n".encode()
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for _ in range(200):
                file.write(line * 18_000)
                digest.update(line * 18_000)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        tokens_of(model, path, digest.hexdigest(), 10)  # what the libraries take for themselves
        before = peak()
        assert len(tokens_of(model, path, digest.hexdigest(), 50_000)) == 50_000
        print(path.stat().st_size >> 20, peak() - before)
    """
    path = saved("gpt2").parent / "long.txt"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), str(saved("gpt2"))], capture_output=True, text=True
    )
    path.unlink()
    assert run.returncode == 0, run.stderr
    size, grown = map(int, run.stdout.split())
    assert size > 190 and grown < 120
