"""The side of the bench that needs the compiler: case files to questions, questions to a pack, results to a report.

In: ``bench/cases/*.yaml``, kernels and schedules; results that came back. Out: a pack (``packer.py``), a Markdown
summary with tables and plots (``report.py``), the best schedule of a space (``best.py``).
Invariant: a mistake in a file is an error with its line, and numbers are never shown without what they were taken on.
"""
