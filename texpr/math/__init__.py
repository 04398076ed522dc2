"""Integer expressions and proofs about them: the ground layer under the language, the schedule and the plan.

In: dims, tile sizes, index expressions and guards, as hash-consed :mod:`texpr.math.expr` nodes or as text.
Out: bounds, divisors, footprints and three-valued proofs (proved, refuted with a counterexample, unknown).
Invariant: an answer other than "unknown" is true for every integer assignment that satisfies the stated facts and
divides by no zero. Only :mod:`texpr.math.isl` knows islpy, and none of its objects leave that module.
"""
