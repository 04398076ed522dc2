"""The measuring side of the bench, which travels in a pack: from questions (``questions.py``) to a journal of samples.

In: a folder that ``python -m bench pack`` wrote. Out: ``results/*.jsonl``, and from it ``results/*.json``.
It needs Python, NumPy and what a pack's own runner needs; torch and other peers are used where they are installed.
Invariant: nothing is timed that was not found right first, and every sample taken is in the journal.
"""
