// The version of this jobc, from the project() line of the top CMakeLists.txt.
#pragma once

#include <string_view>

namespace jobc {
std::string_view Version();
}
