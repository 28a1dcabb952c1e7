"""`chronos-export bench`: every way to run Chronos-2 on this machine, on the same rows, in one run.

workloads   the batches
peers       the ways to answer them
measure     alternating rounds, ratios within a round, the machine's own peak
report      table, JSON and plot
"""
