"""Rows of a task: where they lie, reading and checking them, which select and which are reported.

What other wings use:

sources    `open_source("embedded" | "hub" | DIR)`
own_files  `open_own_files`: somebody's own files as the rows of a task without a task file
locate     `locate_training`, `locate_report`: the files of a task's rows, and their digests
reading    `Reader`, `read_training`, `read_report`: files → checked examples
splits     `TrainingRows` (train and select rows, stages), `CheckedSplit`; which rows select, and
           how they are kept apart from the reported ones, stands in this file alone
imports    the publishers' original files → a mirror

Below them: `repository` (a data set's files and their splits), `readme` and `patterns` (a README's
metadata), `table_files` (parquet, JSON lines, CSV, TSV → a table), `columns` (types and classes),
`own_tables` (what people have besides: CoNLL, SQuAD's JSON).
"""

from __future__ import annotations

__all__ = ["PROTOCOLS"]

PROTOCOLS = ("clean", "xtreme")
