"""Versions of the libraries that compute: recorded in every artifact, part of the keys where a study says so.

With ``strict_env: true`` the fingerprint of an artifact's code goes on with the versions of the libraries that this
code imports: ``<fingerprint> torch==2.9.1 transformers==5.2.0``. So a new SciPy fits the laws again and quantizes
nothing. Without it the fingerprint stands alone.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata

from bitlaw.errors import UserError
from bitlaw.study.fingerprint import outside

# What computes values, by the name that code imports: the packages whose versions count. Transformers tokenizes with
# tokenizers. Not here, because they only store or carry values: safetensors, pyarrow, datasets, huggingface_hub.
_COMPUTING = {
    "torch": ("torch",),
    "transformers": ("transformers", "tokenizers"),
    "tokenizers": ("tokenizers",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
    "pandas": ("pandas",),
    "gguf": ("gguf",),
    "lm_eval": ("lm_eval",),
    "altair": ("altair",),
    "vl_convert": ("vl-convert-python",),
}
RECORDED = ("bitlaw", *sorted({name for names in _COMPUTING.values() for name in names}), "pyarrow", "safetensors")
"""The packages whose versions the header of an artifact tells, whether they count or not."""

# It reads and writes files for all stages, with libraries that most of them compute nothing with.
_STORAGE = frozenset({"bitlaw.artifacts"})


@cache
def libraries(modules: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the libraries that the code of ``modules`` computes with, by package, sorted.

    Raises:
        UserError: one of them is not installed, so that nothing can be said of its version.
    """
    names = {name for imported in outside(modules, _STORAGE) for name in _COMPUTING.get(imported, ())}
    found = {name: installed(name) for name in sorted(names)}
    for name, version in found.items():
        if version is None:
            raise UserError(f"{name} is not installed here, so its version, which the keys depend on, is unknown; "
                            "install it or set strict_env: false", place="strict_env")  # fmt: skip
    return {name: str(version) for name, version in found.items()}


def with_libraries(code: str, versions: dict[str, str]) -> str:
    """Return the fingerprint ``code`` with the ``versions`` that count with it."""
    return " ".join([code, *(f"{name}=={version}" for name, version in versions.items())])


def split_code(code: str) -> tuple[str, dict[str, str]]:
    """Return the bare fingerprint in ``code`` and the versions that count with it; none without ``strict_env``."""
    bare, *versions = code.split(" ")
    return bare, dict(one.split("==", 1) for one in versions)


def is_strict(code: str) -> bool:
    """Return whether versions of libraries count with the fingerprint ``code``."""
    return " " in code


def installed(name: str) -> str | None:
    """Return the version of the package ``name``, or ``None`` if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
