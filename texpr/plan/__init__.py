"""Plan: an algorithm and a schedule become one loop tree per kernel.

In:   ``lang.Algorithm`` and ``schedule.Variant`` for one target. Out:  ``plan.ir.KernelPlan``: where every func is
computed and kept, every tile's footprint, every guard that stays. Keeps: a plan that exists is legal: every rule is
one named ``check_*`` that refused otherwise, and nothing in the tree is implicit
      (``show`` prints all of it).
"""
