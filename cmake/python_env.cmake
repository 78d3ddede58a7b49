# SPDX-License-Identifier: Apache-2.0
# CKPTIO_PYTHON: the Python that the interop tests run. The user's choice, or else an environment in the build folder,
# which the target ckptio_python_env brings while other things compile. Empty where nothing may be brought: the tests
# are skipped.
set(CKPTIO_PYTHON "" CACHE FILEPATH "Python with torch and numpy for the interop tests")
if(NOT CKPTIO_PYTHON AND CKPTIO_MAY_PROVISION)
  set(CKPTIO_PYTHON "${CKPTIO_DEPS_DIR}/python-env/bin/python3")
  set(stamp "${PROJECT_BINARY_DIR}/tests/python-env.stamp")
  set(requirements "${PROJECT_SOURCE_DIR}/cmake/requirements-test.txt")
  add_custom_command(OUTPUT "${stamp}"
    COMMAND "${CMAKE_COMMAND}" "-DCKPTIO_DEPS_DIR=${CKPTIO_DEPS_DIR}" "-DCKPTIO_TORCH_VERSION=${CKPTIO_TORCH_VERSION}"
            "-DCKPTIO_PIP_ARGS=${CKPTIO_PIP_ARGS}" "-DREQUIREMENTS=${requirements}" "-DSTAMP=${stamp}"
            "-DREQUIRED=${CKPTIO_REQUIRE_INTEROP}" -P "${PROJECT_SOURCE_DIR}/cmake/provision/bring_python_env.cmake"
    DEPENDS "${requirements}"
    COMMENT "Python environment of the interop tests"
    VERBATIM)
  add_custom_target(ckptio_python_env ALL DEPENDS "${stamp}")
endif()
