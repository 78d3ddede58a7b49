# SPDX-License-Identifier: Apache-2.0
# Run by the package tests: builds and runs the consumer project with ckptio as CASE says.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  message("${text}")
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${result}): ${command}")
  endif()
endfunction()

set(configure "${CMAKE_COMMAND}" -S "${SOURCE}/tests/package/consumer" -G "${GENERATOR}" -C "${WORK}/same_tools.cmake"
    "-DCKPTIO_SOURCE=${SOURCE}")

# Configures, builds and runs the consumer in the folder `name`.
function(consume name)
  run(${configure} -B "${WORK}/${name}" "-DTorch_DIR=${Torch_DIR}" ${ARGN})
  run("${CMAKE_COMMAND}" --build "${WORK}/${name}" --parallel 2)
  run("${CMAKE_COMMAND}" -E chdir "${WORK}/${name}" ./consumer)
endfunction()

if(CASE STREQUAL "build_tree")
  consume(build_tree "-Dckptio_DIR=${BUILD}")

elseif(CASE STREQUAL "install")
  set(prefix "${WORK}/prefix")
  file(REMOVE_RECURSE "${prefix}" "${prefix}-moved")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${prefix}")
  file(RENAME "${prefix}" "${prefix}-moved")  # an install may be moved

  cmake_path(GET Torch_DIR PARENT_PATH torch)  # .../share/cmake
  file(GLOB_RECURSE files "${prefix}-moved/*.cmake")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    foreach(path IN ITEMS "${SOURCE}" "${BUILD}" "${prefix}" "${torch}" "libtorch")
      string(FIND "${text}" "${path}" at)
      if(NOT at EQUAL -1)
        message(FATAL_ERROR "${file} names ${path}")
      endif()
    endforeach()
    if(text MATCHES "find_dependency\\(([A-Za-z0-9]+)" AND NOT text MATCHES "find_dependency\\(Torch\\)")
      message(FATAL_ERROR "${file} looks for ${CMAKE_MATCH_1}")
    endif()
  endforeach()
  consume(install "-DCMAKE_PREFIX_PATH=${prefix}-moved" -DFIND_TORCH=before)

elseif(CASE MATCHES "^(fetch_content|add_subdirectory)$")
  # These compile the library anew, the second with the first's objects. Without optimization that takes half the time.
  set(from FetchContent)
  if(CASE STREQUAL "add_subdirectory")
    set(from add_subdirectory)
  endif()
  consume(source -DCKPTIO_FROM=${from} -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0)

elseif(CASE STREQUAL "downloads_nothing")
  # Programs that could bring something only leave a trace.
  set(bin "${WORK}/traps")
  set(trace "${WORK}/trapped")
  file(REMOVE_RECURSE "${bin}" "${trace}")
  foreach(program IN ITEMS python3 python pip pip3 apt-get apt dpkg curl wget git)
    file(WRITE "${bin}/${program}" "#!/bin/sh\necho ${program} \"$@\" >> '${trace}'\nexit 1\n")
    file(CHMOD "${bin}/${program}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  endforeach()
  set(ENV{PATH} "${bin}:$ENV{PATH}")
  foreach(from IN ITEMS add_subdirectory FetchContent)
    foreach(find_torch IN ITEMS never before after)
      set(dir "${WORK}/configure_only")
      file(REMOVE_RECURSE "${dir}")
      run(${configure} -B "${dir}" "-DTorch_DIR=${Torch_DIR}" -DCKPTIO_FROM=${from} -DFIND_TORCH=${find_torch})
    endforeach()
  endforeach()
  # Even asked to, and with nothing there to build with.
  file(REMOVE_RECURSE "${dir}")
  execute_process(COMMAND ${configure} -B "${dir}" -DCKPTIO_FROM=add_subdirectory -DCKPTIO_PROVISION=ON
                          -DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON
                  RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  message("${text}")
  if(result EQUAL 0 OR NOT text MATCHES "ckptio needs LibTorch")
    message(FATAL_ERROR "without LibTorch it did not say so")
  endif()
  if(EXISTS "${dir}/_deps" OR EXISTS "${dir}/ckptio/_deps")
    message(FATAL_ERROR "something was brought into ${dir}")
  endif()
  if(EXISTS "${trace}")
    file(READ "${trace}" text)
    message(FATAL_ERROR "these were run:\n${text}")
  endif()
else()
  message(FATAL_ERROR "no such case: ${CASE}")
endif()
