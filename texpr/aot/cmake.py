"""A bundle's ``CMakeLists.txt``: the launcher as a library target, for ``add_subdirectory`` or on its own."""

from __future__ import annotations

from texpr.aot.ir import Package

_DEMO = """
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable({name}_demo demo.c)
  target_link_libraries({name}_demo PRIVATE {name} m)
endif()
"""


def cmakelists(package: Package) -> str:
    """The text; ``target_link_libraries(program PRIVATE <name>)`` is all a user writes. Needs no CUDA toolkit."""
    name = package.name
    text = f"""cmake_minimum_required(VERSION 3.15)
project({name} C)

add_library({name} {name}.c)
target_include_directories({name} PUBLIC "${{CMAKE_CURRENT_SOURCE_DIR}}")
target_link_libraries({name} PUBLIC ${{CMAKE_DL_LIBS}})
set_target_properties({name} PROPERTIES C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
"""
    return text + (_DEMO.format(name=name) if package.example is not None else "")
