#include "stdlib/stdlib.h"

namespace jobc {

extern const StdModule kStdModules[];
extern const unsigned kStdModuleCount;

const StdModule* FindStdModule(std::string_view name) {
  for (unsigned i = 0; i < kStdModuleCount; ++i) {
    if (name == kStdModules[i].name) return &kStdModules[i];
  }
  return nullptr;
}

std::vector<std::string_view> StdModuleNames() {
  std::vector<std::string_view> names;
  for (unsigned i = 0; i < kStdModuleCount; ++i) names.push_back(kStdModules[i].name);
  return names;
}

}  // namespace jobc
