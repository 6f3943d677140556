"""What the pages say agrees with the code and the data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitlaw.cli import COMMANDS
from bitlaw.evaluation.task_files import SHIPPED
from bitlaw.formats import grammar
from bitlaw.laws import LAWS
from bitlaw.methods import METHODS
from bitlaw.models.sources import SOURCES
from bitlaw.study.load import validate
from bitlaw.study.params import Calibration, Evaluation, Landscape, Study, Task, Tasks
from bitlaw.text import CORPORA

REPOSITORY = Path(__file__).resolve().parents[3]
TOP = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((REPOSITORY / "docs").rglob("*.md"))]
ZOO = REPOSITORY / "data" / "zoo"


def page(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def cells(line: str) -> list[str]:
    return [re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")]


def rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is ``first``."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append(cells(line))
    return found


def test_the_table_of_the_zoo_is_what_is_in_the_zoo() -> None:
    from bitlaw.models.describe import describe
    from bitlaw.models.load import skeleton

    expected = []
    for folder in sorted(path.parent for path in ZOO.glob("*/recipe.json")):
        recipe, config = (json.loads((folder / name).read_text("utf-8")) for name in ("recipe.json", "config.json"))
        about = describe(skeleton({"pretrained": str(folder), "revision": None, "trust_remote_code": False}))
        layers = config.get("n_layer") or config["num_hidden_layers"]
        width = config.get("n_embd") or config["hidden_size"]
        counts = [f"{about[name]:,}" for name in ("n_params", "n_total")]
        held_out, seconds = f"{recipe['losses']['held_out']:.4f}", f"{recipe['seconds']:.0f}"
        expected.append([folder.name, recipe["architecture"], str(layers), str(width), *counts, held_out, seconds])
    assert rows(page("docs/zoo.md"), "model") == expected


def test_the_recipe_of_the_zoo_is_what_the_models_were_made_with() -> None:
    text = " ".join(page("docs/zoo.md").split())
    for file in ZOO.glob("*/recipe.json"):
        made = json.loads(file.read_text("utf-8"))
        assert f"{made['n_tokens']:,} tokens" in text and f"over {made['unique_tokens']:,}" in text
        assert made["device"] in text
        recipe = made["recipe"]
        assert f"{recipe['batch']} sequences a step" in text and f"learning rate of {recipe['lr']}" in text
        hashes = {name: entry["sha256"] for name, entry in recipe["text"].items()}
        listed = rows(page("docs/zoo.md"), "file")
        names = [row[0].removesuffix(".txt.xz").removeprefix("none: text source ").strip("`") for row in listed]
        assert dict(zip(names, (row[1] for row in listed), strict=True)) == hashes


def examples() -> list[Any]:
    found = []
    for path in PAGES:
        blocks = re.findall(r"```yaml\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
        found += [pytest.param(yaml.safe_load(block), id=f"{path.name}-{at}") for at, block in enumerate(blocks)]
    return found


@pytest.mark.parametrize("content", examples())
def test_every_example_of_a_study_is_valid(content: dict[str, Any]) -> None:
    content.pop("study", None)
    for scale in ({}, *content.pop("scales", {}).values()):
        validate({"models": [{"source": "zoo"}], **content, **scale}, [])


def test_every_page_has_its_place_on_the_site() -> None:
    named = re.findall(r"^ +- .*: (\S+\.md)$", page("mkdocs.yml"), re.MULTILINE)
    assert len(set(named)) == len(named)
    there = {str(path.relative_to(REPOSITORY / "docs")) for path in PAGES if path not in TOP}
    assert set(named) == there | {"index.md", "contributing.md", "changelog.md"}


def test_there_are_examples() -> None:
    assert len(examples()) >= 5


def classes() -> dict[str, Any]:
    sources = {f"{name} models": source.Settings for name, source in SOURCES.items()}
    texts = {f"{name} texts": corpus.Settings for name, corpus in CORPORA.items()}
    methods = {name: method.Settings for name, method in METHODS.items()}
    return {
        "study": Study,
        "calibration": Calibration,
        "evaluation": Evaluation,
        "landscape": Landscape,
        "task": Task,
        "tasks": Tasks,
        **sources,
        **texts,
        **methods,
    }


@pytest.mark.parametrize(("kind", "cls"), classes().items())
def test_every_key_of_a_study_is_explained(kind: str, cls: Any) -> None:
    text = page("docs/study.md")
    for key in cls.model_fields:
        assert re.search(rf"`{key}`|[{{ ]{key}:", text), f"{kind}: {key}"


def test_the_defaults_in_the_table_of_the_evaluation_are_those_of_the_code() -> None:
    shown = {row[0]: row[2].strip("`") for row in rows(page("docs/study.md").split("## Calibration")[1], "key")}
    for name, field in Evaluation.model_fields.items():
        default = field.default.source if name == "text" else field.default
        assert shown[name] == (default if isinstance(default, str) else json.dumps(default))


def test_the_defaults_in_the_table_of_the_landscape_are_those_of_the_code() -> None:
    shown = {row[0]: row[2].strip("`") for row in rows(page("docs/study.md").split("## Landscape")[1], "key")}
    for name, field in Landscape.model_fields.items():
        default = field.default
        said = "null" if default is None else f"[{', '.join(default)}]" if isinstance(default, tuple) else str(default)
        assert shown.pop(name) == said
    assert not shown


def test_the_costs_of_a_landscape_are_those_of_its_defaults() -> None:
    one = Landscape()
    text = page("docs/landscape.md")
    passes = 1 + len(one.kinds) * one.directions * one.points
    assert f"{passes} by default | `probes` + `lanczos`; {one.probes + one.lanczos} by default" in text
    assert f"2 + `error_points`; {2 + one.error_points} by default | 1 |" in text


def test_the_tables_of_the_tasks_are_those_of_the_code() -> None:
    section = page("docs/study.md").split("## Zero-shot tasks")[1]
    shown = {row[0]: row[2].strip("`") for row in rows(section, "key")}
    defaults = {name: field.default for name, field in Tasks.model_fields.items() if name != "names"}
    assert shown == {name: "null" if default is None else str(default) for name, default in defaults.items()}
    listed = {name for row in rows(section, "task") for name in re.findall(r"\w+", row[0])}
    assert listed == {path.stem for path in SHIPPED.glob("*.yaml")}


def test_every_law_and_its_settings_are_explained() -> None:
    text = page("docs/laws.md")
    for name, law in LAWS.items():
        assert f"`{name}`" in text
        for key, field in law.settings.model_fields.items():
            assert f"`{key}`" in text
            if isinstance(field.default, float):
                assert re.search(rf"\b{field.default:g}\b", text), f"{name}.{key}"
        for constant in law.constants:
            assert re.search(rf"\b{constant.name}\b", text), f"{name}: {constant.name}"


def test_the_readme_lists_what_there_is() -> None:
    there = {row[0]: row[1] for row in rows(page("README.md"), "part")}
    named = {key: set(re.findall(r"`(\w+)`", text)) for key, text in there.items()}
    assert named["methods"] == set(METHODS)
    assert named["laws"] == set(LAWS)
    elements = {grammar.parse(name).element.name for name in grammar.known_names()}
    assert stems(named["formats"]) == stems(elements)


def stems(names: set[str]) -> set[str]:
    """Return what names of elements begin with, without bits: ``mxfp`` for ``mxfp4_e2m1``."""
    return {re.match("[a-z]+", name)[0] for name in names}  # type: ignore[index]


def test_every_element_is_explained() -> None:
    text = page("docs/formats.md")
    listed = {str(grammar.parse(name)) for name in re.findall(r"`((?:[a-z]+\d?\w*)_(?:[bg]\d+|row)\w*)`", text)}
    explained = stems({grammar.parse(name).element.name for name in listed})
    assert explained == stems({grammar.parse(name).element.name for name in grammar.usual_names()})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", found.read_text("utf-8"), re.MULTILINE)
            # As GitHub and the site make anchors: without punctuation.
            assert anchor in {re.sub(r"[^\w\s-]", "", one.lower()).replace(" ", "-") for one in headings}, target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```sh\n(.*?)```", text, re.DOTALL)])
    for command in re.findall(r"^bitlaw (\w+)", code, re.MULTILINE):
        assert command in COMMANDS, command
    makefile = page("Makefile")
    for targets in re.findall(r"^make ([a-z -]+)", code, re.MULTILINE):
        for target in targets.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
