"""Statecast compared with its peers and the floors of its parts, in one run on one machine: python -m bench.compare.

cli        the command; stages: the measurements and their order; sizes: durations and counts
models     the models that are served; servers, peers: the processes that are measured
loads      the requests of a load, to Statecast and to the peers; loop: closed loops; usage: CPU, files and network
floors     the least cost of parts of the work: commits, matrix products, an LSTM alone
findings   the results; targets: the expected results; report: all of it as Markdown
"""
