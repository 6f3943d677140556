"""Tokens and their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlaw.errors import UserError
from bitlaw.models.tokens import check_fits, encode, read_text, tokens_of
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
