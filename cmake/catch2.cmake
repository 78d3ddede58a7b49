# SPDX-License-Identifier: Apache-2.0
# The target ckptio_catch: Catch2, version 2 or 3, and tests/ on the include path, for "support/catch.h". The tests
# bring their own main(), since version 2's prebuilt one may be built for another C++ than ours.

# `why` is empty on success.
function(ckptio_find_catch2 why)
  set(${why} "" PARENT_SCOPE)
  find_package(Catch2 CONFIG QUIET)
  if(NOT TARGET Catch2::Catch2)
    find_path(CKPTIO_CATCH2_INCLUDE_DIR catch2/catch.hpp)
    mark_as_advanced(CKPTIO_CATCH2_INCLUDE_DIR)
  endif()
  if(NOT TARGET Catch2::Catch2 AND NOT CKPTIO_CATCH2_INCLUDE_DIR)
    set(reason "")
    if(CKPTIO_MAY_PROVISION)
      ckptio_bring_debian(root reason catch2)
      if(reason STREQUAL "")
        find_package(Catch2 CONFIG QUIET PATHS "${root}/usr" NO_DEFAULT_PATH)
      else()
        set(reason "\n  Bringing it failed: ${reason}\n")
      endif()
    endif()
    if(NOT TARGET Catch2::Catch2)
      string(CONCAT reason
        "ckptio's tests need Catch2 (version 2 or 3), and there is none here.${reason}\n"
        "Install it (Debian and Ubuntu: catch2; Fedora: catch-devel; Homebrew: catch2), name one with -DCatch2_DIR=... "
        "or -DCMAKE_PREFIX_PATH=..., or build without the tests: -DCKPTIO_BUILD_TESTS=OFF.")
      if(NOT CKPTIO_MAY_PROVISION)
        message(FATAL_ERROR "${reason}")
      endif()
      message(STATUS "ckptio: no Catch2: the examples can be built, the tests cannot")
      set(${why} "${reason}" PARENT_SCOPE)
      return()
    endif()
  endif()

  add_library(ckptio_catch INTERFACE)
  target_include_directories(ckptio_catch INTERFACE "${PROJECT_SOURCE_DIR}/tests")
  set(major 2)
  if(TARGET Catch2::Catch2)
    string(REGEX MATCH "^[0-9]+" major "${Catch2_VERSION}")
    target_link_libraries(ckptio_catch INTERFACE Catch2::Catch2)
  else()
    target_include_directories(ckptio_catch SYSTEM INTERFACE "${CKPTIO_CATCH2_INCLUDE_DIR}")
  endif()
  message(STATUS "ckptio: using Catch2 ${major}")
  set(CKPTIO_CATCH_MAJOR ${major} PARENT_SCOPE)
endfunction()
