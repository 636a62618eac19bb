"""Measures a node, ours or any other that speaks the relay protocol.

`python -m tools.bench`, see docs/performance.md.

`figures.py` says what is measured. For each figure the controller (`run.py`) starts two light
processes (`driver.py`), which talk to nodes in network namespaces (`lab.py`, `testbed.py`);
`stats.py` and `table.py` make sense of what they report.
"""
