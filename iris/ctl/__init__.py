"""The command-line tool on the Python binding: `irisctl`, or `python -m iris.ctl`.

Its manual is docs/irisctl.1. `parser.py` is the command line; each subcommand is a module with a
`run`, imported on demand.
"""
