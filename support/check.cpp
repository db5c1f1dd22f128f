#include "support/check.h"

#include <cstdio>
#include <cstdlib>

namespace jobc {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr,
               "jobc: internal error at %s:%d: %s\n"
               "This is a bug in jobc, not in your file. Please report it with the command you ran.\n",
               file, line, condition);
  std::abort();
}

}  // namespace jobc
