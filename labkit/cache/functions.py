"""Functions of SQL whose result follows from their arguments, by dialect. Others are refused.

PostgreSQL says so itself (`pg_proc.provolatile`), and SQLite too (`PRAGMA function_list`): tests
compare these lists with what servers say. What a setting of the session decides as well, such as a
time zone, is in `SETTINGS_DECIDE`: if your sessions differ in it, say it as `context`.
(https://www.postgresql.org/docs/current/xfunc-volatility.html)
"""

from __future__ import annotations

# Known in any dialect.
PURE = frozenset(
    "abs aggregate_strings avg bool_and bool_or cast ceil ceiling char_length coalesce concat "  # noqa: SIM905
    "count cume_dist dense_rank every exp first_value floor greatest lag last_value lead least "
    "length ln lower ltrim max min mod nth_value ntile nullif percent_rank power rank replace "
    "round row_number rtrim sign sqrt stddev substr substring sum total trim upper "
    "variance".split()
)

SQLITE = frozenset(
    "char glob group_concat hex iif ifnull instr json json_array json_array_length json_each "  # noqa: SIM905
    "json_extract json_group_array json_group_object json_object json_patch json_quote json_remove "
    "json_replace json_set json_tree json_type json_valid likely log log10 log2 pi printf "
    "quote string_agg trunc typeof unhex unicode".split()
)

POSTGRESQL = frozenset(
    "array_agg array_append array_cat array_length array_position array_prepend array_remove "  # noqa: SIM905
    "ascii bit_and bit_length bit_or btrim cardinality chr cbrt corr covar_pop "
    "covar_samp cube div initcap isempty isfinite json_array_elements json_array_elements_text "
    "json_array_length json_each json_each_text json_extract_path json_extract_path_text "
    "json_object_keys json_typeof jsonb_array_elements jsonb_array_elements_text "
    "jsonb_array_length jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text "
    "jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query "
    "jsonb_path_query_array jsonb_path_query_first jsonb_set jsonb_strip_nulls jsonb_typeof "
    "left log log10 lower_inc lpad make_date make_interval make_time make_timestamp md5 mode "
    "octet_length overlay percentile_cont percentile_disc position range_agg regexp_count "
    "regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_substr repeat "
    "reverse right rollup rpad split_part starts_with stddev_pop stddev_samp string_agg "
    "string_to_array strpos translate trunc ts_rank ts_rank_cd unnest upper_inc var_pop var_samp "
    "width_bucket".split()
)

# Written as functions, and part of PostgreSQL's syntax, so that it lists none of them.
SYNTAX = frozenset(
    "aggregate_strings cast coalesce cube greatest grouping grouping_sets least nullif rollup total".split()  # noqa: SIM905, E501
)

# Stable in PostgreSQL: DateStyle, TimeZone, the language or the search path have a say.
SETTINGS_DECIDE = frozenset(
    "array_to_json array_to_string concat concat_ws format json_agg json_build_array "  # noqa: SIM905
    "json_build_object json_object_agg jsonb_agg jsonb_build_array jsonb_build_object "
    "jsonb_object_agg "
    "phraseto_tsquery plainto_tsquery row_to_json to_json to_jsonb to_tsquery to_tsvector "
    "ts_headline websearch_to_tsquery".split()
)

KNOWN = {
    "sqlite": PURE | SQLITE,
    "postgresql": PURE | POSTGRESQL | SETTINGS_DECIDE | {"grouping", "grouping_sets"},
}

# Functions that take a date or time, which a text can say as 'now': the places of other texts,
# such as a format. On SQLite, what comes after the date or time are modifiers.
MOMENTS: dict[str, dict[str, set[int]]] = {
    "sqlite": {
        "date": set(),
        "datetime": set(),
        "julianday": set(),
        "strftime": {0},
        "time": set(),
        "unixepoch": set(),
    },
    "postgresql": {
        "date": set(),
        "date_bin": set(),
        "date_part": {0},
        "date_trunc": {0, 2},
        "extract": {0},
        "generate_series": set(),
        "justify_days": set(),
        "justify_hours": set(),
        "justify_interval": set(),
        "to_char": {1},
    },
}
