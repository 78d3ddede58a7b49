# SPDX-License-Identifier: Apache-2.0
# find_package(ckptio CONFIG) from an install and, with CMAKE_PREFIX_PATH or ckptio_DIR, from the build folder.
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ckptio")

# The two packages differ in where a static libckptio finds libdeflate's archive. A shared libckptio has absorbed it.
set(CKPTIO_PACKAGE_NEEDS_DEFLATE FALSE)
get_target_property(type ckptio TYPE)
if(TARGET ckptio::deflate AND type STREQUAL "STATIC_LIBRARY")
  set(CKPTIO_PACKAGE_NEEDS_DEFLATE TRUE)
endif()

write_basic_package_version_file("${PROJECT_BINARY_DIR}/ckptioConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
set(CKPTIO_PACKAGE_DEFLATE "${CKPTIO_LIBDEFLATE_LIBRARY}")
configure_file(cmake/ckptioConfig.cmake.in "${PROJECT_BINARY_DIR}/ckptioConfig.cmake" @ONLY)
export(TARGETS ckptio NAMESPACE ckptio:: FILE "${PROJECT_BINARY_DIR}/ckptioTargets.cmake")

if(CKPTIO_INSTALL)
  file(RELATIVE_PATH to_libdir "/${package_dir}" "/${CMAKE_INSTALL_LIBDIR}")
  set(CKPTIO_PACKAGE_DEFLATE "\${CMAKE_CURRENT_LIST_DIR}/${to_libdir}/ckptio/libdeflate.a")
  configure_file(cmake/ckptioConfig.cmake.in "${PROJECT_BINARY_DIR}/install/ckptioConfig.cmake" @ONLY)
  install(DIRECTORY include/ckptio DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
  install(TARGETS ckptio EXPORT ckptio)
  install(EXPORT ckptio NAMESPACE ckptio:: FILE ckptioTargets.cmake DESTINATION "${package_dir}")
  install(FILES "${PROJECT_BINARY_DIR}/install/ckptioConfig.cmake" "${PROJECT_BINARY_DIR}/ckptioConfigVersion.cmake"
          DESTINATION "${package_dir}")
  if(CKPTIO_PACKAGE_NEEDS_DEFLATE)
    install(FILES "${CKPTIO_LIBDEFLATE_LIBRARY}" DESTINATION "${CMAKE_INSTALL_LIBDIR}/ckptio")
  endif()
endif()
