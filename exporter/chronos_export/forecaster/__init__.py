"""Series, covariates, frames and long horizons, as rows for a session: numpy, nothing else."""
