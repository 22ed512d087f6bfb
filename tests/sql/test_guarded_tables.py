"""Guarded tables."""
from __future__ import annotations
import psycopg, pytest
from tests.sql.conftest import World, seed_uuid, ALPINE

def test_try(world: World) -> None:
    c = seed_uuid("contact cilka")
    print(world.value("select prosrc from pg_proc where proname='tg_jobs__guard_row'"))
    print(world.value("select prosrc from pg_proc where proname='tg_jobs__guard_given'"))
    def attempt(user, stmt, **kw):
        try:
            with world.acting_as(user) as conn:
                print(stmt, "->", conn.execute(stmt, {"c": c, **kw}).fetchall())
        except psycopg.Error as e:
            print(stmt, "->", e.sqlstate, e.diag.message_primary, "|", e.diag.message_detail, "|", e.diag.message_hint)
    j = "insert into public.jobs (customer_id, service_type, starts_at{}) values (%(c)s, 'x', '2027-01-01'{}) returning *"
    for cols, vals in [("",""), (",status",",'scheduled'"), (",status",",'completed'"), (",version",",5"),(",ends_at",",'2020-01-01'"), (",created_at",",'2020-01-01'"),(",address",",repeat('x',600)")]:
        attempt("andrej", j.format(cols, vals))
    attempt("vera", j.format("",""))
    attempt("andrej", "update public.jobs set status='bogus' returning status")
    attempt("andrej", "update public.jobs set id=gen_random_uuid()")
    attempt("andrej", "update public.jobs set customer_id=gen_random_uuid()")
    attempt("andrej", "update public.jobs set version=7")
    attempt("cilka", "update public.jobs set address='x'")
    i = "insert into public.invoices (customer_id, number, currency, amount_minor{}) values (%(c)s, 'n1', 'EUR', 5{}) returning id"
    for cols, vals in [("",""),("",""),(",tax_minor",",6"),(",status",",'draft'"),(",status",",'sent'"),(",job_id",",gen_random_uuid()")]:
        attempt("andrej", i.format(cols, vals))
    attempt("andrej", "insert into public.loyalty_transactions (customer_id, type, points) values (%(c)s,'expired',-5) returning 1")
    attempt("andrej", "insert into public.messages (customer_id, message, sender_type) values (%(c)s,'x','client') returning 1")
    attempt("andrej", "insert into public.messages (customer_id, message, sender_type, seq, status) values (%(c)s,'x','operator', 1, 'sent') returning seq, status")
    attempt("andrej", "insert into public.messages (customer_id, message, seq) values (%(c)s,'x',7) returning seq, status")
    attempt("andrej", "insert into public.metakocka_connections (account_id, company_id) values (%(a)s,'x') returning 1", a=ALPINE)
    assert 0
