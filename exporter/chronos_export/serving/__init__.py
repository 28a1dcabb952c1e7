"""Forecasts for many clients at once: requests merged into calls, behind servers that others maintain."""
