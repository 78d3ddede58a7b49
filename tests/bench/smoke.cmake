# SPDX-License-Identifier: Apache-2.0
# Every operation of every plugin is measured on small states, each is a line of JSON with its fields, and no file stays.
cmake_minimum_required(VERSION 3.25)

set(fields workload op plugin threads n_bytes median_s limit limit_median_s ratio peak_rss_bytes)
execute_process(
  COMMAND "${BENCH}" --json --repeat 1 --workload big adam small 3x40 --scale 0.02 --plugin torch python safetensors
          --threads 2 --dir "${FOLDER}"
  OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "ckptio_bench ended with ${result}: ${errors}")
endif()
string(REGEX MATCHALL "[^\n]+" lines "${output}")
list(LENGTH lines n_lines)
if(NOT n_lines EQUAL 132)
  message(FATAL_ERROR "${n_lines} lines found, 4 workloads * 3 plugins * 11 operations expected:\n${output}")
endif()
foreach(line IN LISTS lines)
  foreach(field IN LISTS fields)
    string(JSON value ERROR_VARIABLE error GET "${line}" ${field})
    if(error)
      message(FATAL_ERROR "${error} in ${line}")
    endif()
  endforeach()
endforeach()
file(GLOB left "${FOLDER}/*")
if(left)
  message(FATAL_ERROR "files left behind: ${left}")
endif()
execute_process(COMMAND "${BENCH}" --workload 7xa OUTPUT_QUIET ERROR_VARIABLE errors RESULT_VARIABLE result)
if(result EQUAL 0 OR NOT errors MATCHES "--workload 7xa: expected big, adam, small, or COUNTxBYTES")
  message(FATAL_ERROR "a workload of no meaning: ${result}, ${errors}")
endif()
