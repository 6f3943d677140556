"""Fingerprints of code: what a stage computes, without comments, docstrings and formatting.

A fingerprint is the SHA-256 over the syntax trees of some modules and of all ``bitlaw`` modules that these import,
directly or not, also inside functions. What stands under ``if TYPE_CHECKING`` does not count: it computes nothing.
C++ that a module compiles counts with it, byte for byte: for ``cpu.py``, ``cpu.cpp`` and ``cpu_*.hpp`` beside it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import bitlaw

_SOURCE = Path(bitlaw.__file__).parent
# Fields that Python versions add or that say nothing about what is computed: a new Python must not change a key.
_IGNORED = frozenset({"type_params", "type_comment", "type_ignores", "kind", "ctx", "simple"})


@cache
def fingerprint(modules: tuple[str, ...]) -> str:
    """Return the fingerprint of the code of ``modules`` (dotted names) and of what they import from ``bitlaw``.

    Raises:
        FileNotFoundError: there is no such module.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        digest.update(f"{name} {_module(name)[0]}\n".encode())
    return digest.hexdigest()


def closure(modules: Iterable[str]) -> set[str]:
    """Return ``modules`` and every ``bitlaw`` module that they import, directly or not."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _module(name)[1]
    return found


def outside(modules: Iterable[str], skipped: Iterable[str] = ()) -> set[str]:
    """Return the packages that ``modules`` and the ``bitlaw`` modules behind them import, less what ``skipped`` do."""
    found: set[str] = set()
    for name in closure(modules) - set(skipped):
        file = _file(name)
        assert file is not None  # the closure holds no other
        for node in ast.walk(_computing(ast.parse(file.read_text("utf-8")))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - {"bitlaw"}


def tree_digest(source: str) -> str:
    """Return the SHA-256 of the syntax tree of ``source`` without docstrings and bare strings."""
    return hashlib.sha256("".join(_dump(_computing(ast.parse(source)))).encode()).hexdigest()


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module and the ``bitlaw`` modules that it imports."""
    file = _file(name)
    if file is None:
        raise FileNotFoundError(f"no module {name}")
    source = file.read_text("utf-8")
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imports = {found for node in ast.walk(_computing(ast.parse(source))) for found in _imported(node, package)}
    return _with_native(file, tree_digest(source)), tuple(sorted(imports - {name}))


def _with_native(file: Path, digest: str) -> str:
    """Return ``digest``, or one that covers the C++ files of the module ``file`` too, if there are any."""
    native = sorted([*file.parent.glob(f"{file.stem}.cpp"), *file.parent.glob(f"{file.stem}_*.hpp")])
    if not native:
        return digest
    sums = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in native]
    return hashlib.sha256("\n".join([digest, *sums]).encode()).hexdigest()


def _file(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first != "bitlaw":
        return None
    path = _SOURCE.joinpath(*rest)
    for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if candidate.is_file():
            return candidate
    return None


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
        # `from bitlaw.formats import grammar` names a module, `from bitlaw.stage import Job` does not.
        names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in names:
        parts = name.split(".")
        for length in range(2, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if _file(prefix):
                yield prefix


def _computing(tree: ast.AST) -> ast.AST:
    """Return ``tree``, changed in place, without what computes nothing: docstrings, bare strings, type checking."""
    for node in ast.walk(tree):
        for name, content in ast.iter_fields(node):
            if isinstance(content, list):
                setattr(node, name, list(_kept(content)))
    return tree


def _kept(items: list[Any]) -> Iterator[Any]:
    for item in items:
        if _is_typing_only(item):
            yield from _kept(item.orelse)
        elif not _is_bare_string(item):
            yield item


def _is_typing_only(node: object) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_bare_string(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _dump(value: object) -> Iterator[str]:
    # Own form instead of ast.dump: what that prints differs between Python versions.
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for field in value._fields:
            content = getattr(value, field, None)
            if field not in _IGNORED and content is not None and content != []:
                yield f"{field}="
                yield from _dump(content)
                yield ","
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _dump(item)
            yield ","
        yield "]"
    else:
        yield repr(value)
