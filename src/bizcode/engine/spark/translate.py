"""Statements of the embedded engine in Spark's SQL.

Every function that a statement may use is named here with what it means there. What isn't is refused: a function that
Spark knows under the same name may well mean something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ...errors import InvalidQuery

__all__ = ["translate"]

_SAME: dict[type[Any], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.StddevSamp: "stddev_samp",
    exp.Variance: "var_samp",
    exp.CovarSamp: "covar_samp",
    exp.Median: "median",
    exp.LogicalAnd: "bool_and",
    exp.Greatest: "greatest",
    exp.Least: "least",
    exp.Abs: "abs",
    exp.Contains: "contains",
    exp.StartsWith: "startswith",
    exp.EndsWith: "endswith",
    exp.ArrayContains: "array_contains",
    exp.StrPosition: "instr",
    exp.Substring: "substring",
    exp.Lead: "lead",
    exp.Lag: "lag",
    exp.Grouping: "grouping",
    exp.RegrSxx: "regr_sxx",
    exp.RegrSxy: "regr_sxy",
    exp.RegrSyy: "regr_syy",
    exp.Year: "year",
    exp.Month: "month",
}
"""Node -> function of the same arguments."""

_NAMED = {
    "fsum": "sum",
    "epoch_us": "unix_micros",
    "make_timestamptz": "timestamp_micros",
    "make_timestamp": "timestamp_micros",
    "hash": "xxhash64",
    "grouping": "grouping",
}
"""Functions that the parser passes on by name."""

_PLAIN = (
    exp.Case, exp.If, exp.Coalesce, exp.And, exp.Or, exp.Cast, exp.TryCast, exp.RowNumber, exp.Exists, exp.GenerateSeries,
)  # fmt: skip
"""Functions, by the parser's account, that are written as they stand."""

_WRITTEN = "spark"
"""Marks calls that these rules wrote: they mean what Spark means by them."""

_FOREIGN = (exp.Interval, exp.Bracket, exp.Pivot, exp.Lateral, exp.Unnest)
_TYPES = {
    exp.DType.BIGINT, exp.DType.INT, exp.DType.DOUBLE, exp.DType.BOOLEAN, exp.DType.TEXT, exp.DType.ARRAY,
    exp.DType.DECIMAL,
    exp.DType.TIMESTAMPTZ,
}  # fmt: skip

_KINDS = (
    ("VOID", "NULL"), ("STRING", "VARCHAR"), ("BOOLEAN", "BOOLEAN"), ("BIGINT", "BIGINT"), ("DOUBLE", "DOUBLE"),
    ("FLOAT", "DOUBLE"), ("DECIMAL%,0)", "UBIGINT"), ("DECIMAL%", "DOUBLE"), ("ARRAY%", "ARRAY"), ("OBJECT%", "OBJECT"),
)  # fmt: skip
"""What Spark calls the types of JSON values, and what DuckDB does."""


def translate(
    sql: str,
    values: list[Any],
    file: Callable[[list[str], set[str] | None], str],
    table: Callable[[str], str],
) -> tuple[str, dict[str, Any]]:
    """A statement in Spark's SQL, and the values of its named parameters.

    Args:
        values: of $1, $2, ...
        file: the view that stands for Parquet files, by their paths and the columns that are read, None: all.
        table: the view that stands for a table of the embedded engine.
    Raises:
        InvalidQuery: something in it means nothing to Spark, or nothing that is known to be the same.
    """
    try:
        tree: Any = sqlglot.parse_one(sql, read="duckdb")
    except SqlglotError as error:
        raise InvalidQuery(f"the statement can't be put to Spark: {str(error).splitlines()[0]}") from error
    made = _Statement(values, file, table)
    tree = made.statement(tree)
    return tree.sql(dialect="spark"), made.parameters


def _call(name: str, *arguments: Any) -> Any:
    made = exp.Anonymous(this=name, expressions=list(arguments))
    made.meta[_WRITTEN] = True
    return made


class _Statement:
    def __init__(
        self,
        values: list[Any],
        file: Callable[[list[str], set[str] | None], str],
        table: Callable[[str], str],
    ) -> None:
        self.parameters: dict[str, Any] = {}
        self._values = values
        self._file = file
        self._table = table

    def statement(self, tree: Any) -> Any:
        names = {cte.alias for cte in tree.find_all(exp.CTE)}
        for cte in tree.find_all(exp.CTE):
            cte.set("materialized", None)
        for join in tree.find_all(exp.Join):
            if join.args.get("method"):
                raise _refused(join)
        for found in list(tree.find_all(exp.Table)):
            self._source(found, names)
        for filtered in list(tree.find_all(exp.ArrayFilter)):
            self._element(filtered)
        for node in reversed(list(tree.dfs())):  # children first
            made = self._node(node)
            if made is not node:
                if node.parent is None:
                    tree = made
                else:
                    node.replace(made)
        return tree

    def _source(self, table: Any, names: set[str]) -> None:
        """Files and tables as the views that stand for them."""
        if isinstance(table.this, exp.ReadParquet):
            files = [item.this for item in table.this.expressions[0].expressions]
            asking = table.find_ancestor(exp.Select)
            whole = any(isinstance(item, exp.Star) for item in asking.expressions)
            columns = None if whole else {column.name for column in asking.find_all(exp.Column)}
            table.set("this", exp.to_identifier(self._file(files, columns), quoted=True))
            return
        if not isinstance(table.this, exp.Identifier):
            raise _refused(table)
        name = ".".join(part.name for part in table.parts)
        if name not in names:
            for part in ("db", "catalog"):
                table.set(part, None)
            if not table.alias:
                table.set(
                    "alias", exp.TableAlias(this=exp.to_identifier(name.rpartition(".")[2], quoted=True))
                )
            table.set("this", exp.to_identifier(self._table(name), quoted=True))

    def _value(self, value: Any) -> Any:
        name = f"v{len(self.parameters)}"
        self.parameters[name] = value
        return exp.Placeholder(this=name)

    def _node(self, node: Any) -> Any:
        change = _CHANGES.get(type(node))
        if change is not None:
            return change(self, node)
        name = _SAME.get(type(node))
        if name is not None:
            return self._same(name, node)
        if isinstance(node, (exp.Func, *_FOREIGN)) and not isinstance(node, _PLAIN):
            raise _refused(node)
        return node

    # functions

    def _same(self, name: str, node: Any) -> Any:
        arguments = []
        for key in node.arg_types:
            found = node.args.get(key)
            if isinstance(found, list):
                arguments += found
            elif isinstance(found, exp.Expr):
                arguments.append(found)
        if name in ("greatest", "least") and len(arguments) == 1:
            return arguments[0]
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            distinct = arguments[0].expressions
            return (
                exp.Count(this=exp.Distinct(expressions=distinct))
                if name == "count"
                else _call(name, *distinct)
            )
        return _call(name, *arguments)

    def _anonymous(self, node: Any) -> Any:
        name = node.name.lower()
        if node.meta.get(_WRITTEN):
            return node
        if name in _NAMED:
            return _call(_NAMED[name], *node.expressions)
        if name == "to_json":
            # A list of one, without its brackets: to_json takes no scalars.
            (value,) = node.expressions
            text = _call("to_json", _call("array", value))
            inner = _call(
                "substring",
                text,
                exp.Literal.number(2),
                exp.Sub(this=_call("length", text.copy()), expression=exp.Literal.number(2)),
            )
            return exp.Case(ifs=[exp.If(this=_known(value.copy()), true=inner)])
        if name == "arg_min_null":
            return _call("min_by", *node.expressions)
        if name == "to_months":
            return _call("make_ym_interval", exp.Literal.number(0), *node.expressions)
        raise _refused(node)

    def _placeholder(self, node: Any) -> Any:
        if not str(node.this).isdigit():
            return node
        return self._value(self._values[int(node.this) - 1])

    def _literal(self, node: Any) -> Any:
        if isinstance(node.parent, _JSON) and node.arg_key == "expression":
            return node
        if node.is_string:
            return self._value(node.this)
        if isinstance(node.parent, exp.WindowSpec) or node.is_int:
            return node
        if isinstance(node.parent, exp.Cast):
            return node
        return exp.Cast(this=node.copy(), to=exp.DataType(this=exp.DType.DOUBLE))

    def _nearest(self, node: Any) -> Any:
        """arg_min and arg_max pass over rows without a value."""
        name = "min_by" if isinstance(node, exp.ArgMin) else "max_by"
        value, order = node.this, node.expression
        if isinstance(order, exp.Tuple):
            order = _call("struct", *order.expressions)
        if isinstance(value, exp.Tuple):
            value = _call("struct", *value.expressions)
        if not _never_null(value):
            order = exp.Case(ifs=[exp.If(this=_known(value.copy()), true=order)])
        return _call(name, value, order)

    def _struct(self, node: Any) -> Any:
        parts = []
        for item in node.expressions:
            parts += [self._value(item.this.name), item.expression]
        return _call("named_struct", *parts)

    def _quantile(self, node: Any) -> Any:
        return _call("percentile", node.this, node.expression)

    def _discrete(self, node: Any) -> Any:
        order = exp.Order(expressions=[exp.Ordered(this=node.this, nulls_first=True)])
        found = exp.WithinGroup(this=_call("percentile_disc", node.expression), expression=order)
        return exp.Cast(this=found, to=exp.DataType(this=exp.DType.BIGINT))

    def _unnest(self, node: Any) -> Any:
        what = node.this
        if isinstance(what, exp.GenerateSeries):
            end = exp.Sub(this=what.args["end"], expression=exp.Literal.number(1))
            return _call("explode", _call("sequence", what.args["start"], end))
        if isinstance(what, exp.Column) and not what.table:
            return exp.Column(this=exp.Star(), table=what.this)
        raise _refused(node)

    def _shift(self, node: Any) -> Any:
        """Shifts as arithmetic, which takes decimals too."""
        if not isinstance(node.expression, exp.Literal):
            raise _refused(node)
        factor = exp.Literal.number(2 ** int(node.expression.this))
        way = exp.Mul if isinstance(node, exp.BitwiseLeftShift) else exp.IntDiv
        return exp.Paren(this=way(this=exp.Paren(this=node.this), expression=factor))

    def _collected(self, node: Any) -> Any:
        if isinstance(node.this, (exp.Order, exp.Distinct)):
            raise _refused(node)
        return _call("collect_list", node.this)

    def _any(self, node: Any) -> Any:
        return _call("any_value", node.this, exp.true())

    def _ignoring(self, node: Any) -> Any:
        return node.this

    def _last(self, node: Any) -> Any:
        if not isinstance(node.parent, exp.IgnoreNulls):
            raise _refused(node)
        return _call("last_value", node.this, exp.true())

    def _moment(self, node: Any) -> Any:
        if node.args.get("scale") is None or node.args["scale"].name != "6":
            raise _refused(node)
        return _call("timestamp_micros", node.this)

    def _whole(self, node: Any) -> Any:
        # Right for what it is compared with itself for: whether it is a whole number.
        if not isinstance(node.parent, exp.EQ):
            raise _refused(node)
        return _call("rint", node.this)

    def _trunc(self, node: Any) -> Any:
        return _call("date_trunc", self._value(node.unit.name.lower()), node.this)

    def _of_type(self, node: Any) -> Any:
        if node.this == exp.DType.INT128:
            return exp.DataType.build("DECIMAL(38, 0)")
        if node.this not in _TYPES:
            raise _refused(node)
        return node

    def _array(self, node: Any) -> Any:
        return _call("array", *node.expressions)

    # JSON

    def _element(self, filtered: Any) -> None:
        """`len(list_filter(CAST(text AS JSON[]), lambda x: test)) > 0`: a list has an element, by its value."""
        more = filtered.parent.parent
        if not (isinstance(more, exp.GT) and isinstance(filtered.this, exp.Cast)):
            raise _refused(filtered)
        items = _call(
            "try_variant_get",
            _call("parse_json", filtered.this.this),
            self._value("$"),
            self._value("array<variant>"),
        )
        test = filtered.expression.this
        equal = next(test.find_all(exp.EQ))
        wanted = equal.expression
        item = exp.column("x")
        if isinstance(equal.this, exp.TryCast):
            number = _call("try_variant_get", item, self._value("$"), self._value("double"))
            kind = _call("schema_of_variant", item.copy())
            numeric = [
                exp.Like(this=kind.copy(), expression=self._value(name))
                for name in ("BIGINT", "DOUBLE", "DECIMAL%")
            ]
            found = exp.and_(exp.or_(*numeric), exp.EQ(this=number, expression=wanted))
        else:
            found = exp.EQ(
                this=_call("to_json", item), expression=_call("to_json", _call("parse_json", wanted))
            )
        held = _call("exists", items, exp.Lambda(this=found, expressions=[exp.to_identifier("x")]))
        more.replace(exp.Coalesce(this=held, expressions=[exp.false()]))

    def _json_type(self, node: Any) -> Any:
        if node.expression is None:
            return self._kind(_call("parse_json", node.this))
        value = _call(
            "try_variant_get",
            _call("parse_json", node.this),
            self._path(node.expression),
            self._value("variant"),
        )
        return self._kind(value)

    def _kind(self, value: Any) -> Any:
        kind = _call("schema_of_variant", value)
        ifs = [
            exp.If(this=exp.Like(this=kind.copy(), expression=self._value(theirs)), true=self._value(ours))
            for theirs, ours in _KINDS
        ]
        return exp.Case(ifs=ifs)

    def _json_text(self, node: Any) -> Any:
        names = _pointer(node.expression)
        if node.this.name == "experiments" and len(names) == 1:
            held = _call("from_json", node.this, self._value("map<string,string>"))
            return _call("try_element_at", held, self._value(names[0]))
        return _call(
            "try_variant_get",
            _call("parse_json", node.this),
            self._path(node.expression),
            self._value("string"),
        )

    def _path(self, pointer: Any) -> Any:
        path = "$"
        for name in _pointer(pointer):
            if '"' in name and "'" in name:
                raise InvalidQuery(
                    f"Spark can't be asked for a property whose name has both quotes: {name!r}"
                )
            quote = "'" if '"' in name else '"'
            path += f"[{quote}{name}{quote}]"
        return self._value(path)


_JSON = (exp.JSONType, exp.JSONExtractScalar)


def _pointer(node: Any) -> list[str]:
    text = node.this if isinstance(node, exp.Literal) else None
    if not isinstance(text, str) or not text.startswith("/"):
        raise InvalidQuery("the statement can't be put to Spark: a path into JSON that is none")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _known(value: Any) -> Any:
    return exp.Not(this=exp.Is(this=value, expression=exp.null()))


def _never_null(value: Any) -> bool:
    return (isinstance(value, exp.Anonymous) and value.name in ("struct", "named_struct")) or isinstance(
        value, exp.Struct
    )


def _refused(node: Any) -> InvalidQuery:
    text = node.sql(dialect="duckdb")
    return InvalidQuery(
        f'engine="spark" can\'t answer this: {text[:120]} has no equal there; ask it of the embedded engine, '
        "without engine="
    )


_CHANGES: Mapping[type[Any], Callable[[_Statement, Any], Any]] = {
    exp.Anonymous: _Statement._anonymous,
    exp.Placeholder: _Statement._placeholder,
    exp.Literal: _Statement._literal,
    exp.ArgMin: _Statement._nearest,
    exp.ArgMax: _Statement._nearest,
    exp.Struct: _Statement._struct,
    exp.PercentileCont: _Statement._quantile,
    exp.PercentileDisc: _Statement._discrete,
    exp.Explode: _Statement._unnest,
    exp.BitwiseLeftShift: _Statement._shift,
    exp.BitwiseRightShift: _Statement._shift,
    exp.IgnoreNulls: _Statement._ignoring,
    exp.LastValue: _Statement._last,
    exp.UnixToTime: _Statement._moment,
    exp.Trunc: _Statement._whole,
    exp.ArrayAgg: _Statement._collected,
    exp.AnyValue: _Statement._any,
    exp.DateTrunc: _Statement._trunc,
    exp.TimestampTrunc: _Statement._trunc,
    exp.DataType: _Statement._of_type,
    exp.Array: _Statement._array,
    exp.JSONType: _Statement._json_type,
    exp.JSONExtractScalar: _Statement._json_text,
}
