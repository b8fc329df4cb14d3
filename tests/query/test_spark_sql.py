"""What is put to Spark, as text: no Java is needed for that."""

from __future__ import annotations

import importlib.util

import pytest

from bizcode import Business, InvalidQuery, StorageError

pytest.importorskip("sqlglot")

from bizcode.engine.spark.translate import translate


def spark(sql: str, *values: object) -> tuple[str, dict[str, object]]:
    return translate(sql, list(values), lambda files, _: f"files_{len(files)}", lambda table: f"v_{table}")


def test_values_and_texts_are_parameters():
    text, values = spark(
        "SELECT count(*) FROM t WHERE a = $2::VARCHAR AND b = 'it''s \\' AND c > $1::BIGINT", 7, "x"
    )
    assert "it" not in text
    assert [*values.values()].count("it's \\") == 1
    assert {7, "x"} < set(values.values())


def test_files_and_tables_become_views_and_common_tables_stay():
    text, _ = spark(
        "WITH c AS MATERIALIZED (SELECT * FROM read_parquet(['a', 'b'], union_by_name = true)) "
        "SELECT * FROM c JOIN store_1.merged m ON m.alias = c.u"
    )
    assert "`files_2`" in text
    assert "`v_store_1.merged` AS m" in text
    assert "FROM c" in text
    assert "MATERIALIZED" not in text


@pytest.mark.parametrize(
    ("shown", "columns"), [("*", None), ('1, "a b" + x.c', {"a b", "c", "d"}), ("count(*)", {"d"})]
)
def test_which_columns_of_files_are_read_is_told(shown, columns):
    told = []
    sql = f"SELECT {shown} FROM read_parquet(['a']) AS x WHERE d > 1"
    translate(sql, [], lambda files, found: told.append((files, found)) or "v", str)
    assert told == [(["a"], columns)]


def test_names_with_quotes_of_all_kinds_stay_one_name():
    text, _ = spark('SELECT "a`b""c" FROM t')
    assert '`a``b"c`' in text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list_sort(a) FROM t",
        "SELECT * FROM a ASOF JOIN b ON a.x = b.x AND a.t < b.t",
        "SELECT a + INTERVAL 1 DAY FROM t",
        "SELECT list(a ORDER BY b) FROM t",
        "SELECT trunc(a) FROM t",
        "SELECT json_extract(a, '/b') FROM t",
        "SELECT a[1] FROM t",
        "SELECT CAST(a AS DATE) FROM t",
        "SELECT * FROM range(3)",
    ],
)
def test_what_has_no_equal_is_refused(sql):
    with pytest.raises(InvalidQuery, match=r"(?i)spark"):
        spark(sql)


def test_without_the_extra_the_opening_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pyspark" else find(name, *more)
    )
    with pytest.raises(StorageError, match=r"pip install 'bizcode\[spark\]'"):
        Business(tmp_path, engine="spark")
