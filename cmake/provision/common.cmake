# SPDX-License-Identifier: Apache-2.0
# What the files of this folder share. They run both at configure time and as scripts (cmake -P) while building.
# Everything is kept in CKPTIO_DEPS_DIR, a folder of the build tree. A piece is brought into a scratch folder there
# and renamed into place when it is whole, so a piece that exists is complete, however an earlier run ended.

if(NOT DEFINED CKPTIO_DEPS_DIR)
  set(CKPTIO_DEPS_DIR "${CMAKE_BINARY_DIR}/_deps")
endif()
set(CKPTIO_TORCH_CPU_INDEX "https://download.pytorch.org/whl/cpu")

# The last lines of what a program printed, indented.
function(ckptio_tail out text)
  string(STRIP "${text}" text)
  string(REGEX REPLACE "\r" "\n" text "${text}")
  string(REGEX MATCH "([^\n]*\n?[^\n]*\n?[^\n]*\n?[^\n]*\n?[^\n]*\n?[^\n]*\n?[^\n]*\n?[^\n]*)$" text "${text}")
  string(REPLACE "\n" "\n    " text "\n${text}")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# An empty scratch folder. Its users hold the lock of ckptio_lock_deps, so others of this name were left by a run
# that was killed. A program that outlived it may still write there: the new one has a name of its own.
function(ckptio_scratch out name)
  file(GLOB left LIST_DIRECTORIES TRUE "${CKPTIO_DEPS_DIR}/tmp/${name}.*")
  if(left)
    file(REMOVE_RECURSE ${left})
  endif()
  string(RANDOM LENGTH 8 suffix)
  set(dir "${CKPTIO_DEPS_DIR}/tmp/${name}.${suffix}")
  file(MAKE_DIRECTORY "${dir}")
  set(${out} "${dir}" PARENT_SCOPE)
endfunction()

# Keeps two configures or builds of one build tree from bringing the same piece at once; released with the process.
function(ckptio_lock_deps)
  file(MAKE_DIRECTORY "${CKPTIO_DEPS_DIR}")
  file(LOCK "${CKPTIO_DEPS_DIR}/provision.lock" GUARD PROCESS TIMEOUT 1800 RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(STATUS "ckptio: going on without the lock on ${CKPTIO_DEPS_DIR} (${result})")
  endif()
endfunction()
