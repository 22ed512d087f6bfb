from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from rapport.local.errors import StackError
from rapport.local.stack.npm import Binaries
from rapport.local.stack.ports import choose_any
from rapport.local.stack.postgres import Cluster, Database
from rapport.local.stack.supervisor import ChildDiedError, Supervisor
from rapport.local.supabase.prepare import prepare


@pytest.fixture(scope="module")
def created(binaries: Binaries, session_folder: Path) -> Cluster:
    """A cluster as a stack has it, which no server runs on."""
    folder = session_folder / "durable"
    folder.mkdir()
    cluster = Cluster(
        programs=binaries.postgres,
        data=folder / "postgres",
        port=choose_any("postgres")["postgres"],
        password=secrets.token_urlsafe(16),
    )
    cluster.create()
    return cluster


@pytest.fixture
def supervisor(created: Cluster) -> Iterator[Supervisor]:
    with Supervisor(created.data.parent) as supervisor:
        yield supervisor


def setting(cluster: Cluster, name: str) -> str:
    with cluster.connect() as connection:
        row = connection.execute("select current_setting(%s)", [name]).fetchone()
    assert row
    return str(row[0])


def test_a_stack_s_cluster_loses_no_commit_and_streams_its_log(
    created: Cluster, supervisor: Supervisor
) -> None:
    supervisor.start(created.child())
    names = ("fsync", "synchronous_commit", "full_page_writes", "wal_level", "TimeZone")
    assert [setting(created, name) for name in names] == ["on", "on", "on", "logical", "UTC"]


def test_a_committed_row_survives_a_crash(created: Cluster, supervisor: Supervisor) -> None:
    supervisor.start(created.child())
    with created.connect() as connection:
        connection.execute("create table kept as select 1 as value")
    os.kill(supervisor.processes[0].pid, signal.SIGKILL)
    with pytest.raises(ChildDiedError):
        supervisor.watch()
    supervisor.stop()
    supervisor.start(created.child())
    with created.connect() as connection:
        assert connection.execute("table kept").fetchall() == [(1,)]


def test_a_lock_whose_process_id_went_to_another_program_is_no_obstacle(
    created: Cluster, supervisor: Supervisor
) -> None:
    lock = created.data / "postmaster.pid"
    lock.write_text(f"{os.getppid()}\n{created.data}\n0\n{created.port}\n\n127.0.0.1\n\nready\n")
    supervisor.start(created.child())
    assert lock.read_text().splitlines()[0] == str(supervisor.processes[0].pid)


def test_a_wrong_password_is_refused(created: Cluster, supervisor: Supervisor) -> None:
    supervisor.start(created.child())
    stranger = dataclasses.replace(created, password="guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        stranger.connect()


def test_a_port_in_use_is_reported_with_the_log(created: Cluster, cluster: Cluster) -> None:
    late = dataclasses.replace(created, port=cluster.port)
    with (
        Supervisor(created.data.parent) as supervisor,
        pytest.raises(ChildDiedError, match="Address already in use"),
    ):
        supervisor.start(late.child())


def test_a_half_made_data_folder_is_made_anew(created: Cluster) -> None:
    half = dataclasses.replace(created, data=created.data.with_name("half"), durable=False)
    half.data.mkdir()
    (half.data / "PG_VERSION").write_text("17\n")
    assert not half.is_created
    half.create()
    assert (half.data / "global" / "pg_control").exists()


CREATE = """
import sys
from pathlib import Path
from rapport.local.stack.postgres import Cluster

programs, data = map(Path, sys.argv[1:3])
Cluster(programs=programs, data=data, port=1, password=sys.argv[3]).create()
"""

# says what it was given for the password, and takes its time
SLOW_INITDB = """#!/bin/sh
for option; do case $option in --pwfile=*) cat "${option#--pwfile=}" > /dev/null;; esac; done
echo $$ > "$(dirname "$0")/started"
exec sleep 600
"""


def test_a_kill_during_initdb_leaves_neither_it_nor_the_password(session_folder: Path) -> None:
    folder = session_folder / "killed"
    programs = folder / "programs"
    programs.mkdir(parents=True)
    programs.chmod(0o777)
    (programs / "initdb").write_text(SLOW_INITDB)
    (programs / "initdb").chmod(0o755)
    started, password = programs / "started", secrets.token_urlsafe(16)
    command = [sys.executable, "-c", CREATE, str(programs), str(folder / "postgres"), password]
    with subprocess.Popen(command) as creating:
        try:
            while not (started.exists() and started.read_text()):
                assert creating.poll() is None
                time.sleep(0.02)
            initdb = psutil.Process(int(started.read_text()))
        finally:
            creating.kill()
    gone, _ = psutil.wait_procs([initdb], timeout=10)
    assert gone == [initdb]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"initdb", "started"}


def test_preparing_twice_changes_nothing(cluster: Cluster, prepared: Database) -> None:
    clone = cluster.clone_database(prepared, "prepared_twice")
    prepare(clone)
    with psycopg.connect(clone.url("postgres")) as connection:
        assert connection.execute("select session_user").fetchone() == ("postgres",)
    cluster.drop_database(clone.name)


def test_a_database_of_another_version_is_refused(cluster: Cluster, prepared: Database) -> None:
    clone = cluster.clone_database(prepared, "prepared_before")
    with cluster.connect(clone.name) as connection:
        connection.execute("comment on schema extensions is 'an older digest'")
    with pytest.raises(StackError, match="--fresh"):
        prepare(clone)
    cluster.drop_database(clone.name)


def test_a_database_is_dropped_under_a_client_of_logical_replication(
    cluster: Cluster, prepared: Database
) -> None:
    clone = cluster.clone_database(prepared, "streamed")
    url = clone.url("supabase_admin") + "?replication=database"
    client = psycopg.pq.PGconn.connect(url.encode())
    try:
        made = client.exec_(b"CREATE_REPLICATION_SLOT busy TEMPORARY LOGICAL pgoutput")
        assert made.status == psycopg.pq.ExecStatus.TUPLES_OK
        cluster.drop_database(clone.name)
    finally:
        client.finish()
    with cluster.connect() as connection:
        names = connection.execute("select datname from pg_database").fetchall()
    assert ("streamed",) not in names


def test_the_server_ends_with_its_supervisor(created: Cluster) -> None:
    with Supervisor(created.data.parent) as supervisor:
        supervisor.start(created.child())
        server = psutil.Process(supervisor.processes[0].pid)
        family = [server, *server.children(recursive=True)]
    assert not any(process.is_running() for process in family)
    assert not (created.data / "postmaster.pid").exists()
