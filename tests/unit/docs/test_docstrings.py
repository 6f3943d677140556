"""What the docstrings of public names say: shapes, units, errors, sources, and each parameter that they begin to list.

A docstring may point to another one instead, by "see ``...``" or "as ``...``". Entries of registries have that of their
base behind them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from projects import REPOSITORY

PACKAGE = REPOSITORY / "src" / "bitlaw"
Function = ast.FunctionDef | ast.AsyncFunctionDef

POINTER = re.compile(r"\b([Ss]ee|[Aa]s) ``|\b[Ii]nverse of ``")
ARRAY = re.compile(r"\b(Tensor|Array|ndarray)\b")
TABLE = re.compile(r"\b(DataFrame|Series)\b")
SHAPE = re.compile(
    r"\(\.\.\.[,)]|\([^()]*,[^()]*\)|\((n|count)\)|"
    r"\b(shapes?|scalar|rows?|columns?|matrix|matrices|vectors?|elementwise|element by element)\b"
)
ROWS = re.compile(r"\b(rows?|columns?|cells?|tables?|points?|lines?|pairs?|groups?|one for each)\b", re.IGNORECASE)
UNIT = re.compile(
    r"\b(nats?|bits?|steps?|bytes?|dB|decibels|seconds?|minutes|share|ratio|probability|logarithm|log|ln|exp|times|number|count|"
    r"distance|loss|error|correlation|R²|exponent|value|slope|factor|digits|MB|megabytes|bound|criterion)\b",
    re.IGNORECASE,
)
# Functions that a registry calls; its base says what they take and give.
BASES = {
    ("claims", "test"): ("claims/base.py", "Claim"),
    ("laws", "function"): ("laws/base.py", "Law"),
    ("laws", "select"): ("laws/base.py", "Law"),
    ("predictor.models", "learn"): ("predictor/base.py", "Model"),
}
SOURCED = {"formats": "KIND", "methods": "METHOD", "laws": "LAW", "claims": "CLAIM"}
SOURCE = re.compile(r"\b(19|20)\d\d\b|arXiv|[Tt]his project|ModelOpt|bitsandbytes|compressed-tensors|nearest")


@dataclass(frozen=True)
class Public:
    """A public function or method.

    Attributes:
        place: file and line.
        name: with its class.
        folder: the package below bitlaw.
        node: its syntax tree.
    """

    place: str
    name: str
    folder: str
    node: Function

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def points(self) -> bool:
        return POINTER.search(self.doc) is not None or (self.folder, self.node.name) in BASES

    @property
    def parameters(self) -> list[str]:
        arguments = self.node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        return [each.arg for each in every if each is not None and each.arg not in ("self", "cls")]

    @property
    def returns(self) -> str:
        return ast.unparse(self.node.returns) if self.node.returns else ""

    @property
    def arrays(self) -> bool:
        return ARRAY.search(f"{ast.unparse(self.node.args)} {self.returns}") is not None

    @property
    def raised(self) -> set[str]:
        """The errors that its own body raises, the functions inside it left out."""
        found: set[str] = set()
        waiting: list[ast.AST] = list(self.node.body)
        while waiting:
            node = waiting.pop()
            if isinstance(node, Function | ast.Lambda | ast.ClassDef):
                continue
            if isinstance(node, ast.Raise) and node.exc is not None:
                error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                found.add(error.attr if isinstance(error, ast.Attribute) else getattr(error, "id", "?"))
            waiting += ast.iter_child_nodes(node)
        # What tells of a mistake in this code, or ends a program: no caller is to expect it.
        return found - {"AssertionError", "SystemExit"}


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of all modules, by path below the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found[str(path.relative_to(PACKAGE))] = ast.parse(path.read_text("utf-8"))
    return found


def public() -> Iterator[Public]:
    for file, tree in trees().items():
        folder = file.rpartition("/")[0].replace("/", ".")
        yield from _public(tree.body, file, folder, "")


def _public(body: list[ast.stmt], file: str, folder: str, owner: str) -> Iterator[Public]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, file, folder, f"{node.name}.")
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield Public(f"src/bitlaw/{file}:{node.lineno}", owner + node.name, folder, node)


def complaints(found: Iterator[str]) -> None:
    said = sorted(found)
    assert not said, "\n" + "\n".join(said)


def test_there_is_something_to_look_at() -> None:
    assert len(list(public())) > 700
    assert sum(bool(each.raised) for each in public()) > 50


def test_every_public_name_has_a_docstring() -> None:
    complaints(f"{file}: the module" for file, tree in trees().items() if not ast.get_docstring(tree))
    complaints(f"{each.place}: {each.name}" for each in public() if not each.doc)


def test_errors_are_named() -> None:
    complaints(
        f"{each.place}: {each.name} raises {', '.join(sorted(each.raised))}"
        for each in public()
        if each.raised and not each.points and not re.search(r"[Rr]aise|[Ff]ails", each.doc)
    )


def test_a_list_of_arguments_is_complete() -> None:
    complaints(
        f"{each.place}: {each.name}: {name}"
        for each in public()
        if (listed := section(each.doc, "Args")) is not None
        for name in set(each.parameters) ^ set(listed)
    )


def test_a_list_of_attributes_is_complete() -> None:
    complaints(
        f"src/bitlaw/{file}:{node.lineno}: {node.name}: {name}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if (listed := section(ast.get_docstring(node) or "", "Attributes")) is not None
        for name in set(fields(node)) - set(listed)
    )


def fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield the public fields that a class declares with their types."""
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.target.id[0] == "_":
            continue
        # A literal of one value is the tag by which a section of a study is told from others.
        if not re.match(r"ClassVar|Literal\['\w+'\]$", ast.unparse(line.annotation)):
            yield line.target.id


def test_shapes_are_said() -> None:
    """Of arrays that come in or out, and what the rows are of a table that comes out."""
    complaints(
        f"{each.place}: {each.name}: {each.doc.splitlines()[0]}"
        for each in public()
        if not each.points
        and ((each.arrays and not SHAPE.search(each.doc)) or (TABLE.search(each.returns) and not ROWS.search(each.doc)))
    )


def test_units_are_said() -> None:
    """Of each number that is returned: its unit, or what it counts or compares."""
    complaints(
        f"{each.place}: {each.name}: {each.doc.splitlines()[0]}"
        for each in public()
        if each.returns == "float" and not each.points and not UNIT.search(f"{each.name} {each.doc}")
    )


def test_sources_are_said() -> None:
    """An entry of a registry of things that papers have says which paper, or that it is this project's own."""
    entries = [
        (file, text)
        for file, tree in trees().items()
        if (attribute := SOURCED.get(file.rpartition("/")[0]))
        and re.search(rf"^{attribute}\b.*=", text := ast.unparse(tree), re.MULTILINE)
    ]
    assert len(entries) > 25
    complaints(f"src/bitlaw/{file}" for file, text in entries if not SOURCE.search(text))


def test_the_bases_of_registries_say_it_for_their_entries() -> None:
    for file, name in BASES.values():
        (node,) = (each for each in ast.walk(trees()[file]) if isinstance(each, ast.ClassDef) and each.name == name)
        doc = ast.get_docstring(node) or ""
        assert SHAPE.search(doc) or ROWS.search(doc), name


def test_the_rules_see_what_is_missing() -> None:
    """A function that says nothing breaks every rule."""
    node = ast.parse("def loss(w: Tensor, seed: int) -> float:\n    'Do it.'\n    raise ValueError(w)").body[0]
    assert isinstance(node, ast.FunctionDef)
    bad = Public("here", "loss", "laws", node)
    assert bad.raised == {"ValueError"} and bad.arrays and not bad.points
    assert not SHAPE.search(bad.doc) and not UNIT.search(bad.doc)
    assert section("Do it.\n\nArgs:\n    w: weights,\n        more.\n    seed: a number.\n", "Args") == ["w", "seed"]


def section(doc: str, title: str) -> list[str] | None:
    """Return the names that the section ``title`` of a docstring lists; ``None`` if it has none."""
    match = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+)(?: \([^)]*\))?:", match[1], re.MULTILINE) if match else None
