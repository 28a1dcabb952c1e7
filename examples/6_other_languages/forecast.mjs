// Forecast the Nile's flow with an exported model, in Node or in a browser page: onnxruntime-web, WebAssembly.
//
//   npm install onnxruntime-web
//   node forecast.mjs ARTIFACT nile.csv
//
// Prints the median forecast of the next 10 years, one number a line.

const STEPS = 10;
const MEDIAN = 10; // of the 21 quantile levels 0.01, 0.05, 0.1, ..., 0.5, ..., 0.99

/** One series in, its median forecast out.
 *  ort: the module onnxruntime-web; model and weights: the bytes of model.onnx and weights.bin. */
export async function forecast(ort, model, weights, series) {
  const options = { externalData: [{ path: "weights.bin", data: weights }] };
  const session = await ort.InferenceSession.create(model, options);
  const inputs = {
    context: new ort.Tensor("float32", Float32Array.from(series), [1, series.length]),
    group_ids: new ort.Tensor("int64", BigInt64Array.from([0n]), [1]),
    future_covariates: new ort.Tensor("float32", new Float32Array(STEPS).fill(NaN), [1, STEPS]),
  };
  const { quantile_preds: out } = await session.run(inputs); // [1, quantiles, 16]
  const width = out.dims[2];
  return Array.from(out.data.slice(MEDIAN * width, MEDIAN * width + STEPS));
}

export const parse = (text) => text.trim().split("\n").map(Number);

if (typeof process !== "undefined" && process.argv[1]?.endsWith("forecast.mjs")) {
  const [, , artifact, data] = process.argv;
  const { readFile } = await import("node:fs/promises");
  const ort = await import("onnxruntime-web");
  const [model, weights, text] = await Promise.all([
    readFile(`${artifact}/model.onnx`),
    readFile(`${artifact}/weights.bin`),
    readFile(data, "utf8"),
  ]);
  const median = await forecast(ort, model, weights, parse(text));
  console.log(median.map((value) => value.toFixed(3)).join("\n"));
  process.exit(0); // the runtime's worker threads would keep the process alive
}
