# SPDX-License-Identifier: Apache-2.0
# ckptio_discover_tests(target [LABELS label...] [TIMEOUT seconds] [ENVIRONMENT NAME=value...]) makes each test case of a
# Catch2 executable, of version 2 or 3, a test of ctest under its own name. A case is labelled by its tag, where it has one among contract,
# interop, corrupt, crash and fuzz; otherwise by LABELS, which defaults to unit.
#
# An interop case that cannot run prints a line that begins with `CKPTIO_SKIP:` and returns; ctest then counts it as
# skipped, or with CKPTIO_REQUIRE_INTEROP as failed.
#
# Catch2's own catch_discover_tests is not used: system headers alone lack it, and it can't label by tag in version 2.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  function(ckptio_discover_tests target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "LABELS;ENVIRONMENT")
    if(NOT arg_TIMEOUT)
      set(arg_TIMEOUT 120)
    endif()
    if(NOT arg_LABELS)
      set(arg_LABELS unit)
    endif()
    set(list "${CMAKE_CURRENT_BINARY_DIR}/${target}_tests.cmake")
    set(tmp "${PROJECT_BINARY_DIR}/tests/tmp")
    file(MAKE_DIRECTORY "${tmp}")
    set(environment "TMPDIR=${tmp}" PYTHONDONTWRITEBYTECODE=1 ${arg_ENVIRONMENT})
    if(CKPTIO_REQUIRE_INTEROP)
      list(APPEND environment CKPTIO_REQUIRE_INTEROP=1)
    endif()
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND "${CMAKE_COMMAND}" "-DEXECUTABLE=$<TARGET_FILE:${target}>" "-DLIST=${list}" "-DLABELS=${arg_LABELS}"
              "-DTIMEOUT=${arg_TIMEOUT}" "-DCATCH_MAJOR=${CKPTIO_CATCH_MAJOR}"
              "-DREQUIRE_INTEROP=${CKPTIO_REQUIRE_INTEROP}" -P "${PROJECT_SOURCE_DIR}/cmake/discover_tests.cmake"
      BYPRODUCTS "${list}" VERBATIM)
    set(include "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
    file(WRITE "${include}"
         "set(ckptio_environment \"${environment}\")\n"
         "if(EXISTS \"${CKPTIO_PYTHON}\")  # bringing it may have failed\n"
         "  list(APPEND ckptio_environment \"CKPTIO_PYTHON=${CKPTIO_PYTHON}\")\nendif()\n"
         "if(EXISTS \"${list}\")\n  include(\"${list}\")\n"
         "else()\n  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)\nendif()\n")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include}")
  endfunction()
  return()
endif()

cmake_minimum_required(VERSION 3.25)

# Calls add_case(name) for every test case that `spec` selects.
macro(for_each_case spec)
  if(CATCH_MAJOR EQUAL 2)
    set(list_arguments --list-test-names-only)  # its exit status is the number of cases
  else()
    set(list_arguments --list-tests --verbosity quiet)
  endif()
  execute_process(COMMAND "${EXECUTABLE}" "${spec}" ${list_arguments}
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT result MATCHES "^[0-9]+$" OR (result GREATER 0 AND output STREQUAL "" AND NOT errors STREQUAL ""))
    message(FATAL_ERROR "listing the tests of ${EXECUTABLE} failed (${result}):\n${output}${errors}")
  endif()
  # Names may hold ; and [, which CMake's lists cannot: walk the text.
  while(output MATCHES "^([^\n]*)\n")
    set(name "${CMAKE_MATCH_1}")
    string(LENGTH "${CMAKE_MATCH_0}" length)
    string(SUBSTRING "${output}" ${length} -1 output)
    string(STRIP "${name}" name)
    if(NOT name STREQUAL "")
      add_case("${name}")
    endif()
  endwhile()
endmacro()

set(script "")
function(add_case name)
  string(REGEX REPLACE "([][\\,*\"])" "\\\\\\1" spec "${name}")  # what Catch2's test specifications give a meaning
  set(properties "TIMEOUT ${TIMEOUT} LABELS \"${labels}\" ENVIRONMENT \"\${ckptio_environment}\"")
  if(REQUIRE_INTEROP)
    string(APPEND properties " FAIL_REGULAR_EXPRESSION CKPTIO_SKIP:")
  else()
    string(APPEND properties " SKIP_REGULAR_EXPRESSION CKPTIO_SKIP:")
  endif()
  string(APPEND script "add_test([==[${name}]==] [==[${EXECUTABLE}]==] [==[${spec}]==])\n"
                       "set_tests_properties([==[${name}]==] PROPERTIES ${properties})\n")
  set(script "${script}" PARENT_SCOPE)
endfunction()

set(kinds contract interop corrupt crash fuzz)
set(no_kind "")
foreach(kind IN LISTS kinds)
  set(labels "${kind}")
  for_each_case("[${kind}]${no_kind}")  # a case with two of them takes the first
  string(APPEND no_kind "~[${kind}]")
endforeach()
set(labels "${LABELS}")
for_each_case("${no_kind}")
if(script STREQUAL "")
  message(FATAL_ERROR "${EXECUTABLE} has no tests")
endif()
file(WRITE "${LIST}" "${script}")
