"""Reading a study: ``params.yaml`` selects a file under ``studies/`` and overrides it; mistakes are one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitlaw.errors import UserError, unknown
from bitlaw.formats import grammar
from bitlaw.study.scales import scaled, without_scales
from bitlaw.study.yaml_file import Location, YamlFile, place, read_yaml

if TYPE_CHECKING:
    from bitlaw.study.params import Study


@dataclass(frozen=True)
class Loaded:
    """A study that has been read.

    Attributes:
        name: of the study file, without ending.
        root: the project folder.
        study: its validated content.
        files: where it was read from, what overrides first.
    """

    name: str
    root: Path
    study: Study
    files: tuple[YamlFile, ...]

    def place(self, *location: str | int) -> str:
        """Return ``file:line: path`` of the value at ``location``."""
        return place(location, self.files)


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder at or above ``start`` (default: here) that holds ``params.yaml``.

    Raises:
        UserError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    if not here.is_dir():
        raise UserError("no such folder", place=str(start))
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    raise UserError("no params.yaml here or in a folder above; go to the project's folder", place=str(here))


def load_study(root: Path, name: str | None = None, scale: str | None = None) -> Loaded:
    """Return the study that ``params.yaml`` in ``root`` selects.

    Every key of ``params.yaml`` but ``study`` and ``scale`` overrides the study's key of that name: mappings are
    merged, all else is replaced. A scale of the study overrides it likewise, before ``params.yaml`` does.

    Args:
        root: the project folder.
        name: take this study instead of the one that ``params.yaml`` names, and none of its overrides.
        scale: take this scale of the study instead of the one that ``params.yaml`` names.

    Raises:
        UserError: a missing file, malformed YAML, an unknown or wrong key: one line with its place.
    """
    if name is not None:
        base = read_yaml(_study_file(root, name, "--study"), root)
        return _loaded(root, Path(name).stem, base, scaled(base, scale, "--scale"), None)
    params = read_yaml(root / "params.yaml", root)
    chosen = params.content.get("study")
    if not isinstance(chosen, str):
        known = ", ".join(_known(root)) or "none"
        raise UserError(f"say which study to run: `study: NAME`; there are: {known}", place=place(["study"], [params]))
    base = read_yaml(_study_file(root, chosen, place(["study"], [params])), root)
    if scale is not None:
        return _loaded(root, Path(chosen).stem, base, scaled(base, scale, "--scale"), params)
    own, where = params.content.get("scale"), place(["scale"], [params])
    if own is not None and not isinstance(own, str):
        raise UserError("must be the name of a scale", place=where)
    return _loaded(root, Path(chosen).stem, base, scaled(base, own, where), params)


def _loaded(root: Path, name: str, base: YamlFile, scale: YamlFile | None, params: YamlFile | None) -> Loaded:
    """Return the study ``base`` with what ``scale`` and ``params`` put in."""
    content = without_scales(base.content)
    files = [base]
    for over in filter(None, (scale, params)):
        selects = ("study", "scale") if over is params else ()
        content = _merge(content, {key: value for key, value in over.content.items() if key not in selects})
        files.insert(0, over)
    return Loaded(name, root, validate(content, files), tuple(files))


def validate(content: Mapping[str, Any], files: Sequence[YamlFile]) -> Study:
    """Return ``content`` as a study. Raises ``UserError`` with the place of the first mistake."""
    from pydantic import ValidationError

    from bitlaw.study.mistakes import one_line
    from bitlaw.study.params import Study

    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise one_line(error, content, files) from None
    for section, names in (
        ("formats", [f"'{name}'" for name in study.formats]),
        ("methods", [f"'{method.name}' with these settings" for method in study.methods]),
        ("laws", [f"'{law.name}'" for law in study.laws]),
    ):
        entries: Sequence[Any] = names if section == "laws" else getattr(study, section)
        for index, entry in enumerate(entries):
            if entry in entries[:index]:
                where = _entry(content["formats"], index) if section == "formats" else index
                raise UserError(f"{names[index]} is there twice", place=place([section, where], files))
    for (fmt, method), times in Counter(study.pairs).items():
        if times > 1:
            raise UserError(
                f"'{fmt}' by '{method.name}' with these settings is there twice", place=place(["grids"], files)
            )
    if study.formats and not study.methods:
        location: Location = ["methods" if "methods" in content else "formats"]
        raise UserError("formats need a method to round to them, say `methods: [rtn]`", place=place(location, files))
    return study


def _entry(formats: Sequence[str], index: int) -> int:
    """Return which entry of ``formats``, with braces, the name with this index comes from."""
    owners = [entry for entry, text in enumerate(formats) for _ in grammar.expand(text)]
    return owners[index]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        # A text is one thing that is chosen as a whole: parts of two sources do not mix.
        together = isinstance(old, dict) and isinstance(value, dict) and "source" not in value
        merged[key] = _merge(old, value) if together and isinstance(old, dict) else value
    return merged


def _study_file(root: Path, name: str, where: str) -> Path:
    path = root / name if name.endswith((".yaml", ".yml")) else root / "studies" / f"{name}.yaml"
    if not path.is_file():
        raise unknown("study", name, _known(root), place=where)
    return path


def _known(root: Path) -> list[str]:
    return sorted(file.stem for file in (root / "studies").glob("*.yaml"))
