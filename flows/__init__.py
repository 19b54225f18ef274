"""When things run: Prefect flows, one a file. How things are done is `pipeline`'s."""
