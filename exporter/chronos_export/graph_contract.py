"""What a graph and an engine take and give, by name, and the files that hold them."""

INPUTS = ("context", "group_ids", "future_covariates")
UNIVARIATE_INPUTS = ("context", "future_covariates")
OUTPUT = "quantile_preds"
GENERAL, UNIVARIATE, WEIGHTS = "model.onnx", "univariate.onnx", "weights.bin"
INLINED = "inlined.onnx"  # the general graph for runtimes that know no local functions
