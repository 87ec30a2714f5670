"""`pageferry sweep`: a grid of migrations, real or simulated, here or on a Dask cluster.

One way through the files: `plan` (a TOML file, checked) → `cells` (every combination, each with an
identity; `settings` says which options it may have) → `driver` or `cluster` (what has not been run
is run, by a `runners.Runner`) → `ledger` (the folder: what has finished, for good) → `columns` and
`parquet` (one row a cell) → `query` and `pictures` (what `sweep show` shows). pyarrow, duckdb and
dask are imported where they are needed, so that no other command waits for them.
"""
