# SPDX-License-Identifier: Apache-2.0
# The decorators' tests in an executable of their own, to be built under ThreadSanitizer (the preset tsan): with what
# they save by, and with nothing of the Trainer's, so that it builds in minutes. All of our code in it is instrumented.
# LibTorch is not, so what it does to memory is not seen: tests that look for a race touch tensors' data themselves. It
# runs with one OpenMP thread, and tests/support/tsan_suppressions.cpp says what is not reported.
get_target_property(sources ckptio SOURCES)
list(FILTER sources EXCLUDE REGEX "TARGET_OBJECTS|/trainer/|/lr_scheduler\\.cpp$|/safetensors_|/load_checkpoint\\.cpp$")
add_library(ckptio_saving OBJECT ${sources})
set_target_properties(ckptio_saving PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(ckptio_saving PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(ckptio_saving PUBLIC torch ckptio_core ckptio_async ckptio_engine PRIVATE ckptio_build_options)
target_compile_features(ckptio_saving PUBLIC cxx_std_20)
target_compile_options(ckptio_saving PUBLIC -O1)  # compiles faster, and runs once
target_precompile_headers(ckptio_saving PRIVATE <torch/torch.h>)

function(ckptio_add_saving_executable target)
  add_executable(${target} "${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.cpp" ${ARGN}
    $<TARGET_OBJECTS:ckptio_core> $<TARGET_OBJECTS:ckptio_async> $<TARGET_OBJECTS:ckptio_engine>
    $<TARGET_OBJECTS:ckptio_saving>)
  target_link_libraries(${target} PRIVATE ckptio_saving ckptio_build_options)
  target_compile_options(${target} PRIVATE -fPIC)  # as the precompiled header
  target_precompile_headers(${target} REUSE_FROM ckptio_saving)
endfunction()
ckptio_add_saving_executable(ckptio_saving_exit_child async_exit_child.cpp)
ckptio_add_saving_executable(ckptio_saving_tests
  "${PROJECT_SOURCE_DIR}/tests/support/catch_main.cpp"
  async_checkpoint_io_test.cpp async_exit_test.cpp snapshot_test.cpp wrapping_checkpoint_io_test.cpp)
set_source_files_properties("${PROJECT_SOURCE_DIR}/tests/support/catch_main.cpp"
  "${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.cpp" PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
target_link_libraries(ckptio_saving_tests PRIVATE ckptio_catch)
target_compile_definitions(ckptio_saving_tests PRIVATE CKPTIO_ASYNC_EXIT_CHILD="$<TARGET_FILE:ckptio_saving_exit_child>")
add_dependencies(ckptio_saving_tests ckptio_saving_exit_child)
ckptio_discover_tests(ckptio_saving_tests LABELS async ENVIRONMENT OMP_NUM_THREADS=1)
