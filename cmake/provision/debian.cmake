# SPDX-License-Identifier: Apache-2.0
# Brings packages of Debian and its relatives into the build tree: `apt-get download` and `dpkg -x`, with lists and
# cache of our own, so that nothing of the system changes and no root is needed.
include("${CMAKE_CURRENT_LIST_DIR}/common.cmake")

# Sets `out` to a folder with the unpacked package (its `usr` is a prefix), or `error`.
function(ckptio_bring_debian out error package)
  set(home "${CKPTIO_DEPS_DIR}/debian/${package}")
  set(${out} "${home}" PARENT_SCOPE)
  set(${error} "" PARENT_SCOPE)
  if(EXISTS "${home}")
    return()
  endif()
  find_program(apt_get NAMES apt-get NO_CACHE)
  find_program(dpkg NAMES dpkg NO_CACHE)
  if(NOT apt_get OR NOT dpkg)
    set(${error} "this system has no apt-get and dpkg to bring it with" PARENT_SCOPE)
    return()
  endif()
  message(STATUS "ckptio: bringing the Debian package ${package} into ${home}")
  set(apt "${CKPTIO_DEPS_DIR}/apt")
  file(MAKE_DIRECTORY "${apt}/lists/partial" "${apt}/cache/archives/partial")
  set(command "${CMAKE_COMMAND}" -E env LC_ALL=C "${apt_get}" -q -o "Dir::State::Lists=${apt}/lists"
      -o "Dir::Cache=${apt}/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=1
      -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
  get_property(updated GLOBAL PROPERTY CKPTIO_APT_UPDATED)
  if(NOT DEFINED updated)  # once per configure; a source of no concern to us may fail, so go on whatever it says
    execute_process(COMMAND ${command} update OUTPUT_VARIABLE updated ERROR_VARIABLE updated)
    set_property(GLOBAL PROPERTY CKPTIO_APT_UPDATED "${updated}")
  endif()
  ckptio_scratch(scratch debian)
  execute_process(COMMAND ${command} download "${package}" WORKING_DIRECTORY "${scratch}"
                  RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  file(GLOB archive "${scratch}/*.deb")
  if(result EQUAL 0 AND archive)
    execute_process(COMMAND "${dpkg}" -x "${archive}" "${scratch}/root" RESULT_VARIABLE result OUTPUT_VARIABLE text
                    ERROR_VARIABLE text)
    if(result EQUAL 0)
      file(MAKE_DIRECTORY "${CKPTIO_DEPS_DIR}/debian")
      file(RENAME "${scratch}/root" "${home}")
      file(REMOVE_RECURSE "${scratch}")
      return()
    endif()
  endif()
  ckptio_tail(updated "${updated}")
  ckptio_tail(text "${text}")
  file(REMOVE_RECURSE "${scratch}")
  set(${error} "`apt-get update` said:${updated}\n  `apt-get download ${package}` said:${text}" PARENT_SCOPE)
endfunction()
