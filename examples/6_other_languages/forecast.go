// Forecast the Nile's flow with an exported model in Go: github.com/yalue/onnxruntime_go.
//
//	go run forecast.go ARTIFACT nile.csv
//
// Prints the median forecast of the next 10 years, one number a line. Not run by the tests: neither Go nor the
// package is in a registry that they reach.
package main

import (
	"fmt"
	"log"
	"math"
	"os"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

const (
	steps     = 10
	width     = 16 // steps, rounded up to whole patches
	quantiles = 21 // levels 0.01, 0.05, 0.1, ..., 0.5, ..., 0.99
	median    = 10
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func readSeries(path string) []float32 {
	text, err := os.ReadFile(path)
	check(err)
	var series []float32
	for _, line := range strings.Fields(string(text)) {
		value, err := strconv.ParseFloat(line, 32)
		check(err)
		series = append(series, float32(value))
	}
	return series
}

func main() {
	series := readSeries(os.Args[2])
	unknown := make([]float32, steps)
	for i := range unknown {
		unknown[i] = float32(math.NaN())
	}
	check(ort.InitializeEnvironment())
	defer ort.DestroyEnvironment()
	context, err := ort.NewTensor(ort.NewShape(1, int64(len(series))), series)
	check(err)
	groupIDs, err := ort.NewTensor(ort.NewShape(1), []int64{0})
	check(err)
	future, err := ort.NewTensor(ort.NewShape(1, steps), unknown)
	check(err)
	out, err := ort.NewEmptyTensor[float32](ort.NewShape(1, quantiles, width))
	check(err)
	session, err := ort.NewAdvancedSession(os.Args[1]+"/model.onnx",
		[]string{"context", "group_ids", "future_covariates"}, []string{"quantile_preds"},
		[]ort.Value{context, groupIDs, future}, []ort.Value{out}, nil)
	check(err)
	defer session.Destroy()
	check(session.Run())
	for _, value := range out.GetData()[median*width : median*width+steps] {
		fmt.Printf("%.3f\n", value)
	}
}
