"""When things run: thin Prefect flows and the `facefold` command. How things run is `pipeline`."""
