"""What a build is, without Prefect or Dask: its plan, stages, results and rows; files by hand."""
