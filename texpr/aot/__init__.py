"""Gluon text to a bundle: the folder a C, C++ or Python program is given.

In: a :class:`~texpr.aot.ir.Package` (kernels as Gluon text, and what a launcher must know), and build options. Out:
cubins with their resource facts, a C launcher with its header, a manifest, and the PTX that the emulator runs.
Invariant: equal packages give byte-identical bundles wherever and however often they are built, a bundle appears whole
or not at all, and what a manifest says about a cubin was read from that cubin.
"""
