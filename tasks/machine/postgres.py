"""PostgreSQL that the environment names: tried before a server waits for it for minutes."""

import asyncio
import importlib.util
import re
from urllib.parse import urlsplit

from models.errors import QuartetError

PREFECT_DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
MLFLOW_DATABASE = "MLFLOW_BACKEND_STORE_URI"

CONNECT_SECONDS = 10.0


def is_postgres(url: str) -> bool:
    """Whether a database URL is of PostgreSQL."""
    return url.startswith("postgres")


def check_database(variable: str, url: str) -> None:
    """Make sure that a PostgreSQL database lets us in; others are not looked at.

    Args:
        variable: Which environment variable has the URL, for the message.

    Raises:
        QuartetError: It does not answer, refuses, or its driver is missing.
    """
    if not is_postgres(url):
        return
    import asyncpg

    if variable == MLFLOW_DATABASE and importlib.util.find_spec("psycopg2") is None:
        raise QuartetError(
            f"{variable} names PostgreSQL, for which MLflow needs psycopg2, and it is missing; "
            "pip install -c constraints.txt 'quartet-rlhf[postgres]'"
        )

    async def connect() -> None:
        plain = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
        await (await asyncpg.connect(plain, timeout=CONNECT_SECONDS)).close()

    try:
        asyncio.run(connect())
    except (
        OSError,
        ValueError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        said = " ".join(str(error).split()) or type(error).__name__
        raise QuartetError(
            f"the PostgreSQL database {place} does not let us in ({said}); correct {variable}, or "
            "start or create the database"
        ) from error
