// JOBC_CHECK: a broken invariant of jobc itself. Prints what and where, then aborts; never used for bad input.
#pragma once

namespace jobc {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace jobc

#define JOBC_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::jobc::CheckFailed(__FILE__, __LINE__, #condition))
#define JOBC_UNREACHABLE() ::jobc::CheckFailed(__FILE__, __LINE__, "unreachable")
