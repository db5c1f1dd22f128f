#include "support/sha256.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <filesystem>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringRef.h>
#include <llvm/Support/SHA256.h>
#include <sys/stat.h>
#include <unistd.h>
#include <system_error>
#include <vector>

namespace jobc {

namespace {

constexpr uint64_t kLarge = 8 << 20;

/// What is used of libcrypto (EVP_DigestInit_ex(3)); its types are opaque.
struct Crypto {
  void* (*make)() = nullptr;
  void (*free)(void*) = nullptr;
  const void* (*sha256)() = nullptr;
  int (*init)(void*, const void*, void*) = nullptr;
  int (*update)(void*, const void*, size_t) = nullptr;
  int (*final)(void*, unsigned char*, unsigned int*) = nullptr;
  bool complete = false;
};

Crypto OpenCrypto() {
  Crypto crypto;
  void* library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return crypto;
  crypto.complete = true;
  auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    crypto.complete = crypto.complete && function != nullptr;
  };
  find(crypto.make, "EVP_MD_CTX_new");
  find(crypto.free, "EVP_MD_CTX_free");
  find(crypto.sha256, "EVP_sha256");
  find(crypto.init, "EVP_DigestInit_ex");
  find(crypto.update, "EVP_DigestUpdate");
  find(crypto.final, "EVP_DigestFinal_ex");
  return crypto;
}

const Crypto& TheCrypto() {
  static const Crypto crypto = OpenCrypto();
  return crypto;
}

}  // namespace

struct Sha256::State {
  llvm::SHA256 hash;
  void* fast = nullptr;  ///< of libcrypto; null: `hash` is used
};

Sha256::Sha256(uint64_t size) : state_(std::make_unique<State>()) {
  if (size >= kLarge && TheCrypto().complete) {
    const Crypto& crypto = TheCrypto();
    state_->fast = crypto.make();
    if (state_->fast != nullptr && crypto.init(state_->fast, crypto.sha256(), nullptr) != 1) {
      crypto.free(state_->fast);
      state_->fast = nullptr;
    }
  }
  state_->hash.init();
}

Sha256::~Sha256() {
  if (state_->fast != nullptr) TheCrypto().free(state_->fast);
}

void Sha256::Update(std::string_view bytes) {
  if (state_->fast != nullptr) {
    JOBC_CHECK(TheCrypto().update(state_->fast, bytes.data(), bytes.size()) == 1);
    return;
  }
  state_->hash.update(llvm::StringRef(bytes.data(), bytes.size()));
}

std::string Sha256::HexDigest() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string raw;
  if (state_->fast != nullptr) {
    raw.resize(32);
    unsigned int size = 0;
    JOBC_CHECK(TheCrypto().final(state_->fast, reinterpret_cast<unsigned char*>(raw.data()), &size) == 1 && size == 32);
  } else {
    raw = state_->hash.final().str();
  }
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
  Sha256 hash(static_cast<uint64_t>(info.st_size));
  FileDigest digest;
  // Small files are many: no large block for each of them.
  std::vector<char> block(static_cast<size_t>(std::clamp<int64_t>(info.st_size + 1, 1 << 12, 1 << 18)));
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

Result<FileDigest> Sha256OfTree(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (!fs::exists(path, error)) return Error{std::string("cannot open `") + path + "`: " + std::strerror(ENOENT), ENOENT};
    return Error{std::string("`") + path + "` is not a directory", ENOTDIR};
  }
  std::vector<std::string> entries;
  fs::recursive_directory_iterator it(path, fs::directory_options::none, error), end;
  for (; !error && it != end; it.increment(error)) entries.push_back(it->path().lexically_relative(path).generic_string());
  if (error) return Error{std::string("cannot read the directory `") + path + "`: " + error.message(), error.value()};
  std::sort(entries.begin(), entries.end());
  Sha256 hash;
  FileDigest digest;
  for (const std::string& entry : entries) {
    const std::string full = path + "/" + entry;
    struct stat info;
    if (lstat(full.c_str(), &info) != 0) return Error{std::string("cannot read `") + full + "`: " + std::strerror(errno), errno};
    std::string line = entry;
    line += '\0';
    if (S_ISREG(info.st_mode)) {
      Result<FileDigest> file = Sha256OfFile(full);
      if (!file.ok()) return file.error();
      line += (info.st_mode & 0111) != 0 ? "x" : "f";
      line += file->sha256;
      digest.size += file->size;
    } else if (S_ISDIR(info.st_mode)) {
      line += "d";
    } else if (S_ISLNK(info.st_mode)) {
      line += "l" + fs::read_symlink(full, error).string();
    } else {
      return Error{std::string("`") + full + "` is neither a file nor a directory nor a link", EINVAL};
    }
    line += '\n';
    hash.Update(line);
  }
  digest.sha256 = hash.HexDigest();
  return digest;
}

}  // namespace jobc
