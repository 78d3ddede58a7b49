# SPDX-License-Identifier: Apache-2.0
# Compiles through ccache where there is one that works.
find_program(CKPTIO_CCACHE ccache)
mark_as_advanced(CKPTIO_CCACHE)
if(CKPTIO_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  # Our precompiled header needs these leave-outs: https://ccache.dev/manual/latest.html#_precompiled_headers
  set(launcher "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime"
      "${CKPTIO_CCACHE}")
  # Its cache may be in a place that cannot be written.
  file(WRITE "${PROJECT_BINARY_DIR}/CMakeFiles/ccache_trial.cpp" "int main() {}\n")
  execute_process(COMMAND ${launcher} "${CMAKE_CXX_COMPILER}" -c ccache_trial.cpp -o ccache_trial.o
                  WORKING_DIRECTORY "${PROJECT_BINARY_DIR}/CMakeFiles" RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${launcher}")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      add_compile_options(-fpch-preprocess)
    endif()
  endif()
endif()
