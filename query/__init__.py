"""The people's side: the HTTP server, the REST services, stream queries over DuckDB."""
