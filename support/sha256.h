// SHA-256 (FIPS 180-4), over LLVM's implementation; what is large is hashed by libcrypto where it is installed, whose code for
// the machine's own SHA instructions is several times faster. Digests are written as 64 lower-case hex digits everywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "support/result.h"

namespace jobc {

class Sha256 {
 public:
  /// `size`: how many bytes will come, where that is known. Large ones are worth opening libcrypto (2 ms, once).
  explicit Sha256(uint64_t size = 0);
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  /// Ends the digest; the object must not be used afterwards.
  std::string HexDigest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);

struct FileDigest {
  uint64_t size = 0;
  std::string sha256;
};

/// Reads the regular file at `path` in blocks. Fails on anything that is not a regular file or cannot be read.
Result<FileDigest> Sha256OfFile(const std::string& path);

/// Of a directory: of the list of (relative path, kind, executable bit, content hash or target of the link) of everything
/// below it, in byte order. `size` is the sum of its regular files. Fails on special files and on what cannot be read.
Result<FileDigest> Sha256OfTree(const std::string& path);

}  // namespace jobc
