"""The C sources of the stand-in ``libcuda.so.1`` (a package only so that they are installed with it).

In: CUDA driver calls of an unmodified program. Out: requests to the emulator's process (`wire.h` says in which form).
`texpr.emulator.libcuda_build` compiles them, `texpr.emulator.standin` answers the requests.
"""
