"""Lines as the readers return them, for the tests of single tables."""

import json

import pytest
from pyspark.sql import functions as F


@pytest.fixture
def json_lines(spark):
    """A frame of `file` and `line`, as the readers return it, from records or bytes."""

    def build(*lines):
        rows = []
        for number, line in enumerate(lines):
            if not isinstance(line, bytes):
                line = json.dumps(line).encode()
            rows.append((number, bytearray(line)))
        given = spark.createDataFrame(rows, "number INT, bytes BINARY")
        return given.coalesce(1).select(
            F.lit("log_data/a.json").alias("file"),
            F.col("bytes").cast("string").alias("line"),
        )

    return build
