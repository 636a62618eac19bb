"""The command-line tool on the Python binding: `irisctl`, or `python -m iris.ctl`.

`parser.py` is the command line; each subcommand is a module with a `run`, loaded when it is asked for. `formats.py`, `pace.py` and `meter.py`
are the core: they compute, without a socket, thread or clock.
"""
