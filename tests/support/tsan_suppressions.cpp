// SPDX-License-Identifier: Apache-2.0
// What ThreadSanitizer is told not to report, in programs that are built with it. Only what is not instrumented, and
// whose synchronisation it therefore cannot see.
#ifdef __SANITIZE_THREAD__
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return
      // libstdc++ counts the owners of an exception with atomics in its own, compiled code: the last one, on another
      // thread than the one that threw, destroys it.
      "race:std::__exception_ptr::exception_ptr::_M_release\n"
      "race:__cxa_end_catch\n"
      "race:ckptio::Error::~Error\n"
      "race:std::runtime_error::~runtime_error\n"
      // LibTorch counts the owners of tensors and storages in its own code too: the last one, on another thread than
      // the one on which a snapshot let go of it, destroys it.
      "race:libc10.so\n"
      "race:libtorch_cpu.so\n";
}
#endif
