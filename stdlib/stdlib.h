// The standard modules: sources in the language, embedded into the binary, imported as `std/NAME@VERSION`.
#pragma once

#include <string_view>
#include <vector>

namespace jobc {

struct StdModule {
  const char* name;   ///< "python"
  int version;        ///< the only one that is there
  const char* text;
};

/// nullptr where there is no such module.
const StdModule* FindStdModule(std::string_view name);
std::vector<std::string_view> StdModuleNames();

}  // namespace jobc
