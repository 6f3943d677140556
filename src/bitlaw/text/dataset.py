"""Any data set of the Hugging Face hub (WikiText-2, C4, ...), through the ``datasets`` library."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from bitlaw.errors import UserError, unknown
from bitlaw.text.base import TextSettings


class DatasetSettings(TextSettings):
    """``text: {source: dataset, name: Salesforce/wikitext, config: wikitext-2-raw-v1, split: test}``.

    Attributes:
        name: the data set's name on the hub, or a folder that ``datasets.load_dataset`` takes.
        config: its configuration, if it has several.
        split: the split.
        revision: commit or tag on the hub; give one, so that the text can't change under its name.
        column: the column that holds the text.
        separator: what stands between rows (WikiText is usually joined by two line ends, C4 documents likewise).
        rows: take only the first rows (streamed: C4 is not downloaded whole); all if absent.
    """

    source: Literal["dataset"] = "dataset"
    name: str
    config: str | None = None
    split: str = "test"
    revision: str | None = None
    column: str = "text"
    separator: str = "\n\n"
    rows: int | None = Field(default=None, ge=1)


class Dataset:
    """Rows of one column, joined."""

    Settings = DatasetSettings
    remote = True

    def name(self, settings: DatasetSettings) -> str:
        """Return the configuration's name, or the data set's, with the split."""
        return f"{settings.config or settings.name.rsplit('/', 1)[-1]}-{settings.split}"

    def read(self, settings: DatasetSettings, root: Path) -> str:
        """Return the rows' text; see ``Corpus.read``. Needs the ``datasets`` library and, the first time, the hub."""
        try:
            from datasets import load_dataset
            from datasets.exceptions import DatasetsError
        except ModuleNotFoundError:
            raise UserError("data sets need a library: pip install 'bitlaw[hub]'", place=settings.name) from None

        local = root / Path(settings.name).expanduser()
        try:
            rows = load_dataset(
                str(local) if local.is_dir() else settings.name,
                settings.config,
                split=settings.split,
                revision=settings.revision,
                streaming=settings.rows is not None,
            )
            known = rows.column_names or [settings.column]
            if settings.column not in known:
                raise unknown("column", settings.column, known, place=settings.name)
            rows = rows.select_columns(settings.column)
            texts = [row[settings.column] for row in (rows if settings.rows is None else rows.take(settings.rows))]
        except UserError:
            raise
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"the data set can't be loaded ({reason}); run this once where there is a network, "
                "copy HF_HOME here, or use {source: file}",
                place=settings.name,
            ) from None
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"the column '{settings.column}' does not hold text in every row", place=settings.name)
        return settings.separator.join(texts)


CORPUS = Dataset()
