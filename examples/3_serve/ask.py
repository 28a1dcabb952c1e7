"""Ask a server over HTTP what SageMaker's endpoint of Chronos-2 is asked. Needs nothing but Python.

chronos-export serve ARTIFACT
python ask.py [ADDRESS]
"""

import json
import sys
from urllib.request import Request, urlopen

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

sales = {
    "item_id": "umbrellas",
    "start": "2024-01-01",
    "target": [12, 15, 11, 30, 28, 14, 13, 29, 31, 12, 11, 33, 12, 14],
    "past_covariates": {"rain": [0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0]},
    "future_covariates": {"rain": [0, 1, 1]},
}
asked = {"inputs": [sales], "parameters": {"prediction_length": 3, "freq": "1D"}}
headers = {"content-type": "application/json"}
with urlopen(Request(f"{ADDRESS}/invocations", json.dumps(asked).encode(), headers)) as answer:
    (forecast,) = json.load(answer)["predictions"]
print(f"{forecast['item_id']} from {forecast['start']}")
for low, median, high in zip(forecast["0.1"], forecast["0.5"], forecast["0.9"], strict=True):
    print(f"{low:8.2f} {median:8.2f} {high:8.2f}")
