"""Frames made from text, for the tests of single tables."""

import json

import pytest
from pyspark.sql import functions as F


@pytest.fixture
def frame(spark):
    """Builds a frame from text: a header, then a row a line; "-" and columns that the text lacks are NULL."""

    def build(schema: str, text: str):
        header, *rows = (
            [cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()
        )
        values = [tuple(None if cell == "-" else cell for cell in row) for row in rows]
        given = spark.createDataFrame(values, ", ".join(f"{name} STRING" for name in header))
        empty = spark.createDataFrame([], schema)
        return given.select(
            *(
                (F.col(item.name) if item.name in header else F.lit(None))
                .cast(item.dataType)
                .alias(item.name)
                for item in empty.schema
            )
        )

    return build


@pytest.fixture
def json_lines(spark):
    """A frame of `file` and `line`, as the readers return it, from records, text or bytes."""

    def build(*lines):
        texts = [
            line
            if isinstance(line, bytes)
            else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        rows = spark.createDataFrame(
            [(number, bytearray(text)) for number, text in enumerate(texts)], "n INT, b BINARY"
        )
        return rows.coalesce(1).select(
            F.lit("log_data/a.json").alias("file"), F.col("b").cast("string").alias("line")
        )

    return build
