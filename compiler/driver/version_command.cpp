#include <fmt/format.h>

#include "compiler/driver/command_line.h"
#include "compiler/driver/terminal.h"
#include "compiler/driver/version.h"
#include "support/exit_code.h"

namespace jobc {

std::string_view Version() { return JOBC_VERSION; }

int RunVersion(const Invocation& invocation, Terminal& terminal) {
  terminal.Out(invocation.json() ? fmt::format("{{\"schema\":\"jobc.version/1\",\"version\":\"{}\",\"editions\":[1]}}\n", Version())
                                 : fmt::format("jobc {}\n", Version()));
  return kExitOk;
}

}  // namespace jobc
