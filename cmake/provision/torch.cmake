# SPDX-License-Identifier: Apache-2.0
# Finds a LibTorch that this machine can build against, or brings one. It looks at what the user has, in this order:
# Torch_DIR, Torch_ROOT, CMAKE_PREFIX_PATH (each as variable and in the environment), the system's prefixes, the torch
# of the python3 on PATH. One that cannot be used is passed over with a line saying why.
include("${CMAKE_CURRENT_LIST_DIR}/python.cmake")

# The folders with a TorchConfig.cmake, best first.
function(ckptio_torch_candidates out)
  set(found "")
  foreach(dir IN ITEMS "${Torch_DIR}" "$ENV{Torch_DIR}")
    if(NOT dir STREQUAL "" AND EXISTS "${dir}/TorchConfig.cmake")
      list(APPEND found "${dir}")
    elseif(dir AND NOT dir MATCHES "-NOTFOUND$")
      message(STATUS "ckptio: passing over Torch_DIR=${dir}: there is no TorchConfig.cmake in it")
    endif()
  endforeach()
  set(env_root "$ENV{Torch_ROOT}")
  string(REPLACE ":" ";" env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
  foreach(prefix IN LISTS Torch_ROOT env_root CMAKE_PREFIX_PATH env_prefixes CMAKE_SYSTEM_PREFIX_PATH)
    file(GLOB dirs LIST_DIRECTORIES TRUE "${prefix}/lib/*/cmake/Torch")
    list(PREPEND dirs "${prefix}/share/cmake/Torch" "${prefix}/lib/cmake/Torch" "${prefix}/Torch" "${prefix}")
    foreach(dir IN LISTS dirs)
      if(EXISTS "${dir}/TorchConfig.cmake")
        list(APPEND found "${dir}")
      endif()
    endforeach()
  endforeach()
  ckptio_find_python3(python3)
  if(python3)
    execute_process(
      COMMAND "${python3}" -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      RESULT_VARIABLE result OUTPUT_VARIABLE home OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(result EQUAL 0 AND EXISTS "${home}/share/cmake/Torch/TorchConfig.cmake")
      list(APPEND found "${home}/share/cmake/Torch")
    endif()
  endif()
  list(REMOVE_DUPLICATES found)
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# Sets `why` to what is wrong with the LibTorch whose TorchConfig.cmake is in `dir`, empty if nothing, and `version`.
function(ckptio_examine_torch why version dir)
  set(home "${dir}/../../..")
  set(number "")
  if(EXISTS "${dir}/TorchConfigVersion.cmake")
    file(STRINGS "${dir}/TorchConfigVersion.cmake" line REGEX "PACKAGE_VERSION \"[0-9]" LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+\\.[0-9.]*[0-9]" number "${line}")
  endif()
  set(${version} "${number}" PARENT_SCOPE)
  if(number AND number VERSION_LESS CKPTIO_TORCH_MINIMUM)
    set(${why} "it is ${number}, too old (${CKPTIO_TORCH_MINIMUM} is needed, ${CKPTIO_TORCH_VERSION} is what is tested)"
        PARENT_SCOPE)
    return()
  endif()

  # Some packages say so in a flag; in the others no symbol of the library has the ABI tag.
  file(STRINGS "${dir}/TorchConfig.cmake" old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0" LIMIT_COUNT 1)
  if(NOT old_abi AND EXISTS "${home}/lib/libc10.so")
    file(STRINGS "${home}/lib/libc10.so" new_abi REGEX "cxx11" LIMIT_COUNT 1)
    if(NOT new_abi)
      set(old_abi TRUE)
    endif()
  endif()
  if(old_abi)
    set(${why} "it was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0)" PARENT_SCOPE)
    return()
  endif()

  # Its package may ask for more than there is (a CUDA build asks for the CUDA toolkit) and end CMake with an error:
  # let another CMake try it.
  ckptio_scratch(scratch torch-trial)
  file(WRITE "${scratch}/CMakeLists.txt"
       "cmake_minimum_required(VERSION 3.25)\nproject(trial LANGUAGES CXX)\nfind_package(Torch REQUIRED)\n"
       "if(NOT TARGET torch)\n  message(FATAL_ERROR \"it defines no target torch\")\nendif()\n")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${scratch}" -B "${scratch}/build" -G "${CMAKE_GENERATOR}"
                          "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DCMAKE_MAKE_PROGRAM=${CMAKE_MAKE_PROGRAM}"
                          "-DTorch_DIR=${dir}"
                  RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  file(REMOVE_RECURSE "${scratch}")
  if(NOT result EQUAL 0)
    string(REGEX MATCH "CMake Error[^\n]*(\n[^\n]+|\n\n  [^\n]+)*" message "${text}")
    string(REGEX REPLACE "CMake Error[^\n]*\n" "" message "${message}")
    string(REGEX REPLACE "\nCall Stack .*" "" message "${message}")
    string(REGEX REPLACE "[ \n]+" " " message "${message}")
    string(STRIP "${message}" message)
    if(EXISTS "${home}/lib/libtorch_cuda.so" OR text MATCHES "CUDA")
      set(${why} "it is a CUDA build and there is no CUDA toolkit that it accepts: ${message}" PARENT_SCOPE)
    else()
      set(${why} "its package cannot be used: ${message}" PARENT_SCOPE)
    endif()
    return()
  endif()
  set(${why} "" PARENT_SCOPE)
endfunction()

# Sets the cache entry Torch_DIR, or ends the configure with what to do.
function(ckptio_provision_torch)
  if(Torch_DIR AND CKPTIO_TORCH_ACCEPTED STREQUAL Torch_DIR AND EXISTS "${Torch_DIR}/TorchConfig.cmake")
    return()
  endif()
  ckptio_torch_candidates(candidates)
  foreach(dir IN LISTS candidates)
    ckptio_examine_torch(why version "${dir}")
    if(why STREQUAL "")
      message(STATUS "ckptio: using LibTorch ${version} of ${dir}")
      set(Torch_DIR "${dir}" CACHE PATH "Folder of TorchConfig.cmake" FORCE)
      set(CKPTIO_TORCH_ACCEPTED "${dir}" CACHE INTERNAL "")
      return()
    endif()
    message(STATUS "ckptio: passing over the LibTorch of ${dir}: ${why}")
  endforeach()

  ckptio_bring_torch(home why)
  set(dir "${home}/torch/share/cmake/Torch")
  if(why STREQUAL "")
    ckptio_examine_torch(why version "${dir}")
    if(why MATCHES "CUDA" AND "${CKPTIO_PIP_ARGS}" STREQUAL "")
      message(STATUS "ckptio: pip brought a LibTorch that cannot be used, ${why}")
      message(STATUS "ckptio: trying the CPU build of ${CKPTIO_TORCH_CPU_INDEX}")
      file(REMOVE_RECURSE "${home}")
      set(CKPTIO_PIP_ARGS "--index-url ${CKPTIO_TORCH_CPU_INDEX}")
      ckptio_bring_torch(home why)
      if(why STREQUAL "")
        ckptio_examine_torch(why version "${dir}")
      else()
        set(why "pip brought a CUDA build and there is no CUDA toolkit here that it accepts. For the CPU build, ${why}")
      endif()
    endif()
    if(NOT why STREQUAL "" AND EXISTS "${home}")
      file(REMOVE_RECURSE "${home}")  # so that the next configure, with other arguments, brings another
      set(why "pip brought one that cannot be used: ${why}")
    endif()
  endif()
  if(NOT why STREQUAL "")
    unset(Torch_DIR CACHE)
    message(FATAL_ERROR
      "ckptio: there is no LibTorch here to build against, and bringing one failed.\n"
      "Looked at Torch_DIR, Torch_ROOT, CMAKE_PREFIX_PATH, the system's folders and the torch of python3; then tried "
      "to bring torch ${CKPTIO_TORCH_VERSION} with pip:\n"
      "  ${why}\n"
      "Do one of these and configure again:\n"
      "  - have pip: on Debian and Ubuntu `apt install python3-pip`, elsewhere python3 with pip;\n"
      "  - tell pip where to look, with its own settings or `-DCKPTIO_PIP_ARGS=...`; for example the CPU builds of "
      "PyTorch's own index: `cmake --preset default -DCKPTIO_PIP_ARGS=\"--index-url ${CKPTIO_TORCH_CPU_INDEX}\"`;\n"
      "  - install torch yourself: `python3 -m pip install torch==${CKPTIO_TORCH_VERSION}`; that is found then;\n"
      "  - download LibTorch from https://pytorch.org (C++, CPU), unpack it, and "
      "`cmake --preset default -DTorch_DIR=/path/to/libtorch/share/cmake/Torch`.\n")
  endif()
  message(STATUS "ckptio: using LibTorch ${version} of ${dir}")
  set(Torch_DIR "${dir}" CACHE PATH "Folder of TorchConfig.cmake" FORCE)
  set(CKPTIO_TORCH_ACCEPTED "${dir}" CACHE INTERNAL "")
endfunction()
