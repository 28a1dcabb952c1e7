"""What a graph and an engine take and give, by name; the README says what these are."""

INPUTS = ("context", "group_ids", "future_covariates")
OUTPUT = "quantile_preds"
