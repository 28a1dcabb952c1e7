"""What a graph and an engine take and give, by name, and the files that hold them."""

INPUTS = ("context", "group_ids", "future_covariates")
UNIVARIATE_INPUTS = ("context", "future_covariates")
OUTPUT = "quantile_preds"
GENERAL, UNIVARIATE, WEIGHTS = "model.onnx", "univariate.onnx", "weights.bin"
INLINED = "inlined.onnx"  # the general graph for runtimes that know no local functions
EMBEDDINGS = "embeddings.onnx"  # context and group_ids to what the encoder gives; if it was asked for
EMBEDDING_INPUTS, EMBEDDING_OUTPUTS = ("context", "group_ids"), ("embeddings", "loc", "scale")
