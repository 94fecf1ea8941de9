"""The benchmark: this package and its peers side by side, in one run, on this machine.

Read it in this order: `corpus` (the texts), `peers` (the libraries), `worker` (a process for each), `measure` (the
rounds and the statistics), `report` (the tables). ``minilm bench`` on the command line runs it.
"""
