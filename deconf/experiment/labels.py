"""Findings that another table holds, met by the name of the film."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from deconf.cohort.store import read_table
from deconf.errors import ReadError, listing
from deconf.experiment.config import Labels


def with_findings(table: pd.DataFrame, labels: Labels, folder: Path) -> pd.DataFrame:
    """Return the table with a 0/1 column for each finding.

    Raises
    ------
    ReadError
        A film is not in the table of labels, or a finding is never mentioned there.
    """
    source, _ = read_table(folder / labels.table)
    names = table["image"].astype(str).str.extract(labels.pattern, expand=False)
    keys = names.map(lambda name: labels.name.format(name))
    found = source.set_index(labels.image)[labels.column].reindex(keys)
    if found.isna().any():
        missing = table["image"][found.isna().to_numpy()]
        raise ReadError(
            f"{len(missing):,} of {len(table):,} films are not in {labels.table}, first "
            f"{missing.iloc[0]!r}: is data.labels.pattern right?"
        )
    each = source[labels.column].str.split("|").explode().unique()
    unknown = [name for name in labels.findings if name not in each]
    if unknown:
        raise ReadError(
            f"{labels.table} never mentions {listing(unknown)}. It knows: {listing(each, 20)}."
        )
    said = found.str.split("|").tolist()
    columns = {name: [int(name in one) for one in said] for name in labels.findings}
    return table.assign(**columns)
