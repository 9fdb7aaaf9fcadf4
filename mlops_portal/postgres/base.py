"""Django's PostgreSQL backend, whose pool does not wait after a restart of the server."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: Any) -> Any:
        """It takes a connection from the pool that answers.

        The pool's own check waits 1, 2, 4, 8 s after each connection that is broken: of five that
        were idle when the server ended, a page took longer than the pool's timeout and failed.
        Here the first broken one has all idle ones looked at, and new ones made, at once.
        """
        connection = super().get_new_connection(conn_params)
        pool = self.pool
        if pool is None:
            return connection
        try:
            pool.check_connection(connection)
        except psycopg.OperationalError:
            pool.putconn(connection)
            pool.check()
            connection = super().get_new_connection(conn_params)
        return connection
