"""`pageferry sweep`: a grid of migrations, real or simulated, here or on a Dask cluster.

Read the files in this order: `plan` (a TOML file, checked) → `cells` (every combination, each with
an identity; `settings` defines their options) → `driver` or `cluster` (a `runners.Runner` runs what
has not run yet) → `ledger` (the folder that keeps what has finished) → `columns` and `parquet` (one
row per cell) → `query` and `pictures` (what `sweep show` shows). pyarrow, duckdb and dask are
imported only where they are needed, so that no other command waits for them.
"""
