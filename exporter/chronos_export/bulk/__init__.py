"""Forecasts of files of any size: Parquet or CSV in and out, a few series in memory at a time."""
