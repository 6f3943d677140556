"""The reader of command blocks sees a block that has no mark, a wrong mark, and a command that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import blocks as module
from blocks import Reader, blocks

PAGE = """\
<!-- run: desk; a word is another -->
```sh
mkdir inside && cd inside
echo a word > said
export GREETING=hello
```

<!-- file: desk: notes/x.yaml -->
```yaml
key: value
```

<!-- run: desk -->
```python
import os

print(os.environ["GREETING"], open("said").read(), open("notes/x.yaml").read())
```

```json
{"not": "a command"}
```
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    return tmp_path / "page.md"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(
        tmp_path, {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    )


def test_a_reader_goes_on_where_the_last_block_ended(write: Path, reader: Reader, tmp_path: Path) -> None:
    write.write_text(PAGE, "utf-8")
    found = blocks("page.md")
    assert [(block.line, block.place, block.file) for block in found] == [
        (1, "desk", None), (8, "desk", "notes/x.yaml"), (13, "desk", None)
    ]  # fmt: skip
    printed = [reader.do(block) for block in found]
    assert reader.folder == tmp_path / "inside"
    assert printed[2].split() == ["hello", "another", "key:", "value"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\ntrue\n```\n", "say above the block where it is run"),
        ("<!-- a remark -->\n```sh\ntrue\n```\n", "say above the block where it is run"),
        ("<!-- run: desk; 9 is 8 -->\n```sh\ntrue\n```\n", "nothing to replace"),
        ("<!-- not run: there is no such machine here -->\n```sh\ntrue\n```\n", "say above the block where it is run"),
        ("<!-- run: desk -->\n```yaml\ntrue\n```\n", "what is run is sh or python"),
        ("```bash\ntrue\n```\n", "write 'bash' as one of sh, python"),
    ],
)
def test_a_wrong_mark_is_seen(write: Path, text: str, complaint: str) -> None:
    write.write_text(text, "utf-8")
    with pytest.raises(AssertionError, match=f"page.md:1: {complaint}"):
        blocks("page.md")


@pytest.mark.parametrize("text", ["* Then\n\n  ```sh\n  true\n  ```\n", "```sh\ntrue\n", "~~~sh\ntrue\n~~~\n"])
def test_a_block_that_no_test_would_see_is_a_mistake(write: Path, text: str) -> None:
    write.write_text(text, "utf-8")
    with pytest.raises(AssertionError, match="page.md: a block is indented, quoted or not closed"):
        blocks("page.md")


@pytest.mark.parametrize("code", ["false\ntrue", "false | cat", "echo $nothing", "bitlw plan"])
def test_a_command_that_fails_is_seen(write: Path, reader: Reader, code: str) -> None:
    write.write_text(f"<!-- run: desk -->\n```sh\n{code}\n```\n", "utf-8")
    (block,) = blocks("page.md")
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        reader.do(block)
