// Forecast the Nile's flow with an exported model in Java: com.microsoft.onnxruntime:onnxruntime.
//
//   javac -cp onnxruntime.jar Forecast.java && java -cp onnxruntime.jar:. Forecast ARTIFACT nile.csv
//
// Prints the median forecast of the next 10 years, one number a line. Not run by the tests: the package is not
// in a registry that they reach.

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

public final class Forecast {
  private static final int STEPS = 10;
  private static final int MEDIAN = 10; // of the 21 quantile levels 0.01, 0.05, 0.1, ..., 0.5, ..., 0.99

  public static void main(String[] arguments) throws IOException, OrtException {
    List<String> lines = Files.readAllLines(Path.of(arguments[1]));
    float[] series = new float[lines.size()];
    for (int i = 0; i < series.length; i++) {
      series[i] = Float.parseFloat(lines.get(i));
    }
    OrtEnvironment environment = OrtEnvironment.getEnvironment();
    try (OrtSession session = environment.createSession(arguments[0] + "/model.onnx")) {
      for (float value : median(environment, session, series)) {
        System.out.printf("%.3f%n", value);
      }
    }
  }

  private static float[] median(OrtEnvironment environment, OrtSession session, float[] series)
      throws OrtException {
    float[] unknown = new float[STEPS];
    Arrays.fill(unknown, Float.NaN);
    long[] ids = {0};
    try (OnnxTensor context =
            OnnxTensor.createTensor(environment, FloatBuffer.wrap(series), new long[] {1, series.length});
        OnnxTensor groupIds = OnnxTensor.createTensor(environment, LongBuffer.wrap(ids), new long[] {1});
        OnnxTensor future =
            OnnxTensor.createTensor(environment, FloatBuffer.wrap(unknown), new long[] {1, STEPS});
        OrtSession.Result result =
            session.run(Map.of("context", context, "group_ids", groupIds, "future_covariates", future))) {
      float[][][] quantiles = (float[][][]) result.get(0).getValue(); // [1, quantiles, 16]
      return Arrays.copyOf(quantiles[0][MEDIAN], STEPS);
    }
  }
}
