// A fast checksum against damage of what is stored (not against an adversary): XXH64 with seed 0, as specified by
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. Part of file formats: never exchanged for another.
#pragma once

#include <cstdint>
#include <string_view>

namespace jobc {

uint64_t Checksum(std::string_view bytes);

}  // namespace jobc
