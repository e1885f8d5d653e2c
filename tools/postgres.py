"""Start a temporary PostgreSQL server on a free loopback port, print its URI, and remove it when stopped.

    python tools/postgres.py     # prints postgresql+psycopg2://geovae:...@127.0.0.1:PORT/mlflow; SIGTERM ends it

It needs Debian's package `postgresql` (or any PostgreSQL whose programs `pg_config --bindir` or PATH finds). The server
refuses to run as root: started by root, it runs as the user `postgres`, or `nobody` where there is none.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def programs() -> Path:
    """Return the folder of initdb and postgres.

    Raises:
        FileNotFoundError: with the remedy, if there are none.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = [Path(found).parent] if (found := shutil.which("initdb")) else []
    for folder in (*debian, *on_path):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")


def server_user() -> str | None:
    """Return whom the server runs as: None for the user of this process."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server with its files in `folder`; return its process and the URI of its database `mlflow`."""
    user = server_user()
    password = secrets.token_hex(16)
    secret = folder / "password"
    secret.write_text(password)
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(secret, user)
    data = folder / "data"
    options = ["-U", "geovae", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"]
    make = [programs() / "initdb", "-D", data, *options]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    serve = [programs() / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(serve, stdout=log, stderr=log, user=user, cwd=folder)
    address = f"geovae:{password}@127.0.0.1:{port}"
    _wait(process, f"postgresql://{address}/postgres", folder / "log")
    return process, f"postgresql+psycopg2://{address}/mlflow"  # which driver a bare postgresql:// means has changed


def _wait(process: "subprocess.Popen[bytes]", uri: str, log: Path) -> None:
    """Wait until the server answers, and make the database."""
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            connection = psycopg2.connect(uri)
            break
        except psycopg2.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE mlflow")
    connection.close()


def main() -> None:
    """Run a server until a signal ends this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="geovae-postgres-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process, uri = start(Path(folder))
        try:
            sys.stdout.write(uri + "\n")
            sys.stdout.flush()
            process.wait()
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            process.send_signal(signal.SIGINT)  # "fast": open connections are cut
            process.wait(30)


if __name__ == "__main__":
    main()
