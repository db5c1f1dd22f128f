#include "support/sha256.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringRef.h>
#include <llvm/Support/SHA256.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace jobc {

struct Sha256::State {
  llvm::SHA256 hash;
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->hash.init(); }
Sha256::~Sha256() = default;

void Sha256::Update(std::string_view bytes) {
  state_->hash.update(llvm::StringRef(bytes.data(), bytes.size()));
}

std::string Sha256::HexDigest() {
  static constexpr char kDigits[] = "0123456789abcdef";
  llvm::StringRef raw = state_->hash.final();
  std::string hex;
  hex.reserve(64);
  for (unsigned char byte : raw) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

Result<FileDigest> Sha256OfFile(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return Error{std::string("cannot open `") + path + "`: " + std::strerror(errno), errno};
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return Error{std::string("`") + path + (S_ISDIR(info.st_mode) ? "` is a directory" : "` is not a regular file"),
                 S_ISDIR(info.st_mode) ? EISDIR : EINVAL};
  }
  Sha256 hash;
  FileDigest digest;
  std::vector<char> block(1 << 18);
  for (;;) {
    ssize_t count = read(fd, block.data(), block.size());
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      Error error{std::string("cannot read `") + path + "`: " + std::strerror(errno), errno};
      close(fd);
      return error;
    }
    hash.Update({block.data(), static_cast<size_t>(count)});
    digest.size += static_cast<uint64_t>(count);
  }
  close(fd);
  digest.sha256 = hash.HexDigest();
  return digest;
}

}  // namespace jobc
