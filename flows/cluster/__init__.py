"""What runs on Dask: workers, the batches they are sent, and how they end."""
