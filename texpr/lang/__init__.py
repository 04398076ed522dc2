"""The algorithm language: a Python function and a signature string become an :class:`texpr.lang.ir.Algorithm`.

In:        ``@te.algorithm(signature, ...)`` on a Python body that is run once per binding of types and statics. Out:
the frozen IR of ``ir.py``, a NumPy reference (``reference.py``) and a running error bound (``errorbound.py``).
Invariant: an ``Algorithm`` that leaves this package is well typed, acyclic, defines every output exactly once, and
reads in bounds,
           under a boundary or under a guard. Nothing here knows of schedules.
"""
