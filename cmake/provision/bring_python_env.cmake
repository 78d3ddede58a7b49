# SPDX-License-Identifier: Apache-2.0
# Run while building (cmake -P) to bring the Python environment of the interop tests. Without one they are skipped, and
# say so; where a skip counts as a failure (CKPTIO_REQUIRE_INTEROP, which CI sets), so does this.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/python.cmake")
ckptio_lock_deps()
ckptio_bring_python_env(why "${REQUIREMENTS}")
if(why STREQUAL "")
  file(TOUCH "${STAMP}")
  return()
endif()
string(CONCAT text
  "ckptio: there is no Python environment for the interop tests, and bringing one failed:\n  ${why}\n"
  "They need a python3 with pip that can install what cmake/requirements-test.txt lists. A Python that has it all can "
  "be named with -DCKPTIO_PYTHON=/path/to/python3.\n")
if(REQUIRED)
  message(FATAL_ERROR "${text}")
endif()
message(WARNING "${text}The interop tests will be skipped.")
