# SPDX-License-Identifier: Apache-2.0
# Finds what ckptio is built from. Only our own presets set CKPTIO_PROVISION; with it, and only where ckptio is the
# top-level project, what is missing is brought into the build tree (cmake/provision). Otherwise these are plain
# find_package calls, and nothing is ever downloaded.
set(CKPTIO_TORCH_VERSION 2.13.0)  # what is tested, and what provisioning brings; requirements-test.txt names it too
set(CKPTIO_TORCH_MINIMUM 2.6)

set(CKPTIO_MAY_PROVISION FALSE)
if(CKPTIO_PROVISION AND PROJECT_IS_TOP_LEVEL)
  set(CKPTIO_MAY_PROVISION TRUE)
  set(CKPTIO_DEPS_DIR "${PROJECT_BINARY_DIR}/_deps" CACHE PATH "Where what is missing is brought to")
  set(CKPTIO_PIP_ARGS "" CACHE STRING "More arguments for `pip install`, for example --index-url URL")
  include("${CMAKE_CURRENT_LIST_DIR}/provision/torch.cmake")
  include("${CMAKE_CURRENT_LIST_DIR}/provision/debian.cmake")
  ckptio_lock_deps()
endif()

find_package(Threads REQUIRED)

# Torch. A parent project's own comes first; what we find serves the whole build, since its targets are part of ours.
if(NOT CKPTIO_CORE_ONLY AND NOT TARGET torch)
  if(CKPTIO_MAY_PROVISION)
    ckptio_provision_torch()
  endif()
  block()
    set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL TRUE)
    if(CKPTIO_MAY_PROVISION)
      set(CMAKE_MESSAGE_LOG_LEVEL ERROR)  # it warns that kineto, a profiler wheels do not carry, is missing
    endif()
    find_package(Torch QUIET)
    if(NOT Torch_FOUND)
      message(FATAL_ERROR
        "ckptio needs LibTorch, and find_package(Torch) found none. Name one with -DTorch_DIR=.../share/cmake/Torch or "
        "-DCMAKE_PREFIX_PATH=...; for the one of a Python that has torch: "
        "-DCMAKE_PREFIX_PATH=\"$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)')\". "
        "In ckptio's own folder, `cmake --preset default` brings one.")
    endif()
  endblock()
endif()

# libdeflate: CRC-32 at the speed of memory. Only its static archive is used, and it is installed beside ours: users of
# the installed package then need no libdeflate of their own, and our package finds Torch alone.
option(CKPTIO_WITH_LIBDEFLATE "Use libdeflate's CRC-32 where its static library is found" ON)
if(CKPTIO_WITH_LIBDEFLATE AND NOT TARGET ckptio::deflate)
  find_path(CKPTIO_LIBDEFLATE_INCLUDE_DIR libdeflate.h)
  find_library(CKPTIO_LIBDEFLATE_LIBRARY "${CMAKE_STATIC_LIBRARY_PREFIX}deflate${CMAKE_STATIC_LIBRARY_SUFFIX}")
  mark_as_advanced(CKPTIO_LIBDEFLATE_INCLUDE_DIR CKPTIO_LIBDEFLATE_LIBRARY)
  set(why "its header and static library are not here")
  if(CKPTIO_MAY_PROVISION AND NOT (CKPTIO_LIBDEFLATE_INCLUDE_DIR AND CKPTIO_LIBDEFLATE_LIBRARY))
    ckptio_bring_debian(root why libdeflate-dev)
    if(why STREQUAL "")
      file(GLOB_RECURSE library "${root}/usr/lib/*/libdeflate.a" "${root}/usr/lib/libdeflate.a")
      set(CKPTIO_LIBDEFLATE_INCLUDE_DIR "${root}/usr/include" CACHE PATH "" FORCE)
      set(CKPTIO_LIBDEFLATE_LIBRARY "${library}" CACHE FILEPATH "" FORCE)
    endif()
  endif()
  if(CKPTIO_LIBDEFLATE_INCLUDE_DIR AND CKPTIO_LIBDEFLATE_LIBRARY)
    # It must also fit into shared libraries, ours or one that our static library is linked into.
    try_compile(CKPTIO_LIBDEFLATE_USABLE
                SOURCE_FROM_CONTENT try.cpp
                "#include <libdeflate.h>\nunsigned f() { return libdeflate_crc32(0, \"\", 1); }\n"
                COMPILE_DEFINITIONS -fPIC "-I${CKPTIO_LIBDEFLATE_INCLUDE_DIR}"
                LINK_OPTIONS -shared
                LINK_LIBRARIES "${CKPTIO_LIBDEFLATE_LIBRARY}")
    set(why "${CKPTIO_LIBDEFLATE_LIBRARY} cannot be linked into a shared library")
  endif()
  if(CKPTIO_LIBDEFLATE_USABLE)
    message(STATUS "ckptio: using libdeflate's CRC-32 (${CKPTIO_LIBDEFLATE_LIBRARY})")
    add_library(ckptio::deflate STATIC IMPORTED GLOBAL)
    set_target_properties(ckptio::deflate PROPERTIES
      IMPORTED_LOCATION "${CKPTIO_LIBDEFLATE_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${CKPTIO_LIBDEFLATE_INCLUDE_DIR}")
  else()
    message(STATUS "ckptio: using the portable CRC-32, which is slower than libdeflate's: ${why}")
  endif()
endif()

# Finds the folder of `header`, which the Debian package `package` has, and keeps it in the cache entry `variable`.
# `why` says why there is none; it is empty where there is one.
function(ckptio_find_header variable why header package)
  find_path(${variable} "${header}")
  mark_as_advanced(${variable})
  set(reason "there is no <${header}> here")
  if(NOT ${variable} AND CKPTIO_MAY_PROVISION)
    ckptio_bring_debian(root reason "${package}")
    if(reason STREQUAL "")
      set(${variable} "${root}/usr/include" CACHE PATH "" FORCE)
    endif()
  endif()
  if(${variable})
    set(reason "")
  endif()
  set(${why} "${reason}" PARENT_SCOPE)
endfunction()

# nlohmann/json reads the header of safetensors files. Headers alone, which no header of ours shows: users of the
# installed package don't need them. A parent project's own comes first.
option(CKPTIO_WITH_JSON "Read and write safetensors, where nlohmann/json is found" ON)
if(CKPTIO_WITH_JSON AND NOT TARGET ckptio::json)
  set(include_dir "$<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>")
  set(why "")
  if(NOT TARGET nlohmann_json::nlohmann_json)
    ckptio_find_header(CKPTIO_JSON_INCLUDE_DIR why nlohmann/json.hpp nlohmann-json3-dev)
    set(include_dir "${CKPTIO_JSON_INCLUDE_DIR}")
  endif()
  if(why STREQUAL "")
    message(STATUS "ckptio: using nlohmann/json (${include_dir})")
    add_library(ckptio::json INTERFACE IMPORTED GLOBAL)
    target_include_directories(ckptio::json SYSTEM INTERFACE "${include_dir}")
  else()
    message(STATUS "ckptio: building without safetensors, which needs nlohmann/json: ${why}")
  endif()
endif()

# The command line `ckptio`: CLI11 for its arguments, OpenSSL's libcrypto for SHA-256. Linked into the tool alone.
option(CKPTIO_WITH_CLI "Build the command line, where CLI11 and OpenSSL are found" ${PROJECT_IS_TOP_LEVEL})
if(CKPTIO_WITH_CLI AND NOT TARGET ckptio::cli11)
  ckptio_find_header(CKPTIO_CLI11_INCLUDE_DIR why CLI/CLI.hpp libcli11-dev)
  if(why STREQUAL "")
    ckptio_find_header(CKPTIO_OPENSSL_INCLUDE_DIR why openssl/evp.h libssl-dev)
  endif()
  set(include_dirs "${CKPTIO_OPENSSL_INCLUDE_DIR}")
  if(why STREQUAL "")
    cmake_path(GET CKPTIO_OPENSSL_INCLUDE_DIR PARENT_PATH root)
    file(GLOB configuration "${root}/include/*/openssl/configuration.h")  # Debian's, of each machine type
    foreach(file IN LISTS configuration)
      cmake_path(GET file PARENT_PATH dir)
      cmake_path(GET dir PARENT_PATH dir)
      list(APPEND include_dirs "${dir}")
    endforeach()
    # Static where there is one: the tool then runs wherever it is copied to.
    file(GLOB static "${root}/lib/*/libcrypto.a" "${root}/lib/libcrypto.a" "${root}/lib64/libcrypto.a")
    find_library(CKPTIO_CRYPTO_LIBRARY NAMES libcrypto.a crypto HINTS "${root}/lib" "${root}/lib64")
    mark_as_advanced(CKPTIO_CRYPTO_LIBRARY)
    if(NOT CKPTIO_CRYPTO_LIBRARY AND static)
      list(GET static 0 static)
      set(CKPTIO_CRYPTO_LIBRARY "${static}" CACHE FILEPATH "" FORCE)
    elseif(NOT CKPTIO_CRYPTO_LIBRARY)
      set(why "OpenSSL's headers are here, its libcrypto is not")
    endif()
  endif()
  if(why STREQUAL "")
    message(STATUS "ckptio: building the command line with CLI11 (${CKPTIO_CLI11_INCLUDE_DIR}) and "
                   "${CKPTIO_CRYPTO_LIBRARY}")
    add_library(ckptio::cli11 INTERFACE IMPORTED GLOBAL)
    target_include_directories(ckptio::cli11 SYSTEM INTERFACE "${CKPTIO_CLI11_INCLUDE_DIR}")
    add_library(ckptio::crypto INTERFACE IMPORTED GLOBAL)
    target_include_directories(ckptio::crypto SYSTEM INTERFACE ${include_dirs})
    target_link_libraries(ckptio::crypto INTERFACE "${CKPTIO_CRYPTO_LIBRARY}" Threads::Threads ${CMAKE_DL_LIBS})
  else()
    message(STATUS "ckptio: building without the command line: ${why}")
  endif()
endif()
