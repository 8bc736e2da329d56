// Linux system calls without a libc, for x86-64. Each returns what the kernel does: a negative errno on
// failure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <asm/unistd.h>

namespace synfluid::guest::process {

template <class T>
inline int64_t as_word(T value) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<int64_t>(value);
  else
    return static_cast<int64_t>(value);
}
inline int64_t as_word(decltype(nullptr)) {
  return 0;
}

inline int64_t syscall6(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
  int64_t result;
  register int64_t r10 asm("r10") = d;
  register int64_t r8 asm("r8") = e;
  register int64_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <class A = int, class B = int, class C = int, class D = int, class E = int, class F = int>
inline int64_t system_call(int64_t number, A a = {}, B b = {}, C c = {}, D d = {}, E e = {}, F f = {}) {
  return syscall6(number, as_word(a), as_word(b), as_word(c), as_word(d), as_word(e), as_word(f));
}

[[noreturn]] inline void exit_group(int code) {
  for (;;) system_call(__NR_exit_group, code);
}

}  // namespace synfluid::guest::process
