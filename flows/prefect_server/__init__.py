"""What Prefect's server is asked for and what it shows of a run."""
