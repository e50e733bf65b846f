"""What is remembered: ring, write-ahead log, Parquet, catalog, registry. Knows neither trio nor sockets nor DuckDB."""
