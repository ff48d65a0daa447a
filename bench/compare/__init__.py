"""Statecast beside its peers and beside the floors of its parts, in one run on one machine: python -m bench.compare.

cli        the command; stages: what is measured, in which order; sizes: how much of it
models     the models that are served; servers, peers: the processes that are measured
loads      what a load asks, of ours and of the peers; loop: closed loops; usage: CPU, files and network
floors     what no server can fall below: commits, matrix products, an LSTM alone
findings   what came out; targets: what should have; report: all of it as Markdown
"""
