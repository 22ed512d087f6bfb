"""What PostgREST's statements embed, as its versions write them."""

from __future__ import annotations

import psycopg
import pytest

from rapport.local.stack.postgres import Database

# one row, and many rows, as versions 12 and 14 embed them
ONE = {
    12: 'left join lateral ( select "o"."id"{inner} ) as "a" on true',
    14: 'LEFT JOIN LATERAL (\nSELECT "o"."id"{inner} WHERE ("a"."id" = $1)) AS "a" ON TRUE',
}
MANY = {
    12: 'left join lateral ( select json_agg("m") as "m" from (select "m".*{inner}) as "m")'
    ' as "m" on true',
    14: 'LEFT JOIN LATERAL (SELECT json_agg("m")::jsonb AS "m" FROM (SELECT "m".* {inner}'
    " LIMIT 5 ) AS m ) AS m ON m IS NOT NULL",
}


def statement(version: int, shape: str) -> str:
    """`o` embeds one row, `m` many; brackets hold what stands beneath."""

    def written(shape: str) -> str:
        text, rest = "", shape
        while rest:
            kind, rest, depth, end = rest[0], rest[1:], 0, 0
            while rest.startswith("(") and (end == 0 or depth):
                depth += {"(": 1, ")": -1}.get(rest[end], 0)
                end += 1
            inner, rest = rest[1 : end - 1] if end else "", rest[end:]
            embedding = (ONE if kind == "o" else MANY)[version]
            text += " " + embedding.replace("{inner}", " from x" + written(inner))
        return text

    return (
        'with pgrst_source as (select "x"."id", coalesce("m"."m", \'[(\') as "lateral (" from x'
        f"{written(shape)}) select coalesce(json_agg(_postgrest_t), '[]') from pgrst_source"
    )


@pytest.mark.parametrize("version", [12, 14])
@pytest.mark.parametrize(
    ("shape", "embeds", "depth", "is_repeated"),
    [
        ("", 0, 0, False),
        ("o", 1, 1, False),
        ("m", 1, 1, False),
        ("mmo", 3, 1, False),
        ("m(m(o)m)o", 5, 3, False),
        ("o(o)", 2, 2, False),
        ("o(m)", 2, 2, True),
        ("m(o(m))", 3, 3, True),
        ("om(o)m", 4, 2, False),
        ("m(oo(om))", 5, 3, True),
    ],
)
def test_what_is_embedded_is_recognized(
    template: Database, version: int, shape: str, embeds: int, depth: int, is_repeated: bool
) -> None:
    with psycopg.connect(template.url()) as connection:
        row = connection.execute(
            "select * from private.embedding_of(%s)", [statement(version, shape)]
        ).fetchone()
    assert row == (embeds, depth, is_repeated)


def test_what_is_no_statement_of_postgrests_is_let_pass(template: Database) -> None:
    with psycopg.connect(template.url()) as connection:
        for query in ("", ")))", "lateral (", "select json_agg(x) from lateral f(1), lateral g(2)"):
            connection.execute("select private.refuse_embedding(%s)", [query])
