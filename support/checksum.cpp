#include "support/checksum.h"

#include <llvm/Support/xxhash.h>

namespace jobc {

uint64_t Checksum(std::string_view bytes) { return llvm::xxHash64(llvm::StringRef(bytes.data(), bytes.size())); }

}  // namespace jobc
