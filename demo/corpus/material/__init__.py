"""Material of the generated conversation: topics, code, tool output, other languages, everyday talk.

Every function takes a `random.Random` and draws only through `choice`, `randrange`, `sample` and `shuffle`, whose
results for a seed are the same on every supported Python.
"""
