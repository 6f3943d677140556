"""What a run leaves under names that stay: the final artifacts, and the page's figures."""

from __future__ import annotations

from pathlib import Path

from bitlaw.study.publish import publish
from projects import Project


def files(root: Path) -> dict[str, str]:
    folder = root / "report"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_figures_are_copied_and_those_of_another_page_go(tmp_path: Path) -> None:
    project = Project(tmp_path)
    grid = project.plan().grid
    page, pictures = tmp_path / grid.report.path, tmp_path / grid.report.payload
    pictures.mkdir(parents=True)
    page.write_text("page")
    for name in ("a.svg", "a.png", "b.svg"):
        (pictures / name).write_text(name)
    assert set(publish(grid, tmp_path)) == {
        "report/index.html", "report/figures/svg/a.svg", "report/figures/png/a.png", "report/figures/svg/b.svg"
    }  # fmt: skip
    assert files(tmp_path) == {
        "index.html": "page", "figures/svg/a.svg": "a.svg", "figures/png/a.png": "a.png", "figures/svg/b.svg": "b.svg"
    }  # fmt: skip
    assert publish(grid, tmp_path) == []
    (pictures / "b.svg").unlink()
    (pictures / "a.svg").write_text("new")
    assert publish(grid, tmp_path) == ["report/figures/svg/a.svg", "report/figures/svg/b.svg"]
    assert files(tmp_path) == {"index.html": "page", "figures/svg/a.svg": "new", "figures/png/a.png": "a.png"}


def test_without_the_pictures_those_that_are_there_stay(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "report" / "figures" / "svg").mkdir(parents=True)
    (tmp_path / "report" / "figures" / "svg" / "a.svg").write_text("old")
    assert publish(project.plan().grid, tmp_path) == []
    assert files(tmp_path) == {"figures/svg/a.svg": "old"}
