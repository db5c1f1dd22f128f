#include "storage/fetch_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "ir/json.h"
#include "runtime/process/os.h"

namespace jobc::storage {
namespace {

/// Of this start of the machine; empty if that cannot be told.
std::string BootId() {
  auto text = process::ReadFile("/proc/sys/kernel/random/boot_id");
  return text ? text->substr(0, text->find('\n')) : "";
}

bool WriteAll(int fd, std::string_view text) { return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()); }

/// `FROM TO`
bool ReadRange(std::string_view line, uint64_t& from, uint64_t& to) {
  auto first = std::from_chars(line.data(), line.data() + line.size(), from);
  if (first.ec != std::errc() || first.ptr == line.data() + line.size() || *first.ptr != ' ') {
    return false;
  }
  auto second = std::from_chars(first.ptr + 1, line.data() + line.size(), to);
  return second.ec == std::errc() && second.ptr == line.data() + line.size() && from < to;
}

}  // namespace

void ByteRanges::Add(uint64_t from, uint64_t to) {
  if (from >= to) {
    return;
  }
  auto next = ranges_.upper_bound(from);
  if (next != ranges_.begin() && std::prev(next)->second >= from) {
    --next;
    from = next->first;
  }
  while (next != ranges_.end() && next->first <= to) {
    to = std::max(to, next->second);
    next = ranges_.erase(next);
  }
  ranges_.emplace(from, to);
}

uint64_t ByteRanges::First() const { return ranges_.empty() || ranges_.begin()->first != 0 ? 0 : ranges_.begin()->second; }

uint64_t ByteRanges::Sum() const {
  uint64_t sum = 0;
  for (const auto& [from, to] : ranges_) {
    sum += to - from;
  }
  return sum;
}

FetchRecord::~FetchRecord() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

std::optional<FetchedPart> FetchRecord::Read(const std::string& path) {
  auto text = process::ReadFile(path);
  const size_t end = text ? text->find('\n') : std::string::npos;
  auto head = end != std::string::npos ? ir::ParseJson(text->substr(0, end)) : Result<ir::Value>(Error{""});
  if (!head || head->kind() != ir::ValueKind::Map) {
    return std::nullopt;
  }
  auto word = [&](const char* name) {
    const ir::Value* found = head->Find(name);
    return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
  };
  const ir::Value* size = head->Find("size");
  const std::string boot = BootId();
  if (boot.empty() || word("boot") != boot || size == nullptr || size->kind() != ir::ValueKind::Int || size->as_int() < 0) {
    return std::nullopt;
  }
  FetchedPart out;
  out.identity = {word("etag"), word("version"), static_cast<uint64_t>(size->as_int())};
  // A last line without its end was being written.
  for (size_t at = end + 1, stop; (stop = text->find('\n', at)) != std::string::npos; at = stop + 1) {
    uint64_t from = 0, to = 0;
    if (!ReadRange(std::string_view(*text).substr(at, stop - at), from, to) || to > *out.identity.size) {
      break;
    }
    out.bytes.Add(from, to);
  }
  return out.identity.known() ? std::optional<FetchedPart>(std::move(out)) : std::nullopt;
}

Result<void> FetchRecord::Begin(const std::string& path, const FetchedPart& part) {
  std::string text = fmt::format("{{\"boot\":{},\"etag\":{},\"size\":{},\"version\":{}}}\n", ir::JsonQuote(BootId()), ir::JsonQuote(part.identity.etag), part.identity.size.value_or(0),
                                 ir::JsonQuote(part.identity.version));
  for (const auto& [from, to] : part.bytes.all()) {
    text += fmt::format("{} {}\n", from, to);
  }
  const std::string staged = path + ".new";
  process::UniqueFd fd(open(staged.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd || !WriteAll(fd.get(), text) || rename(staged.c_str(), path.c_str()) != 0) {
    Error error{fmt::format("cannot write `{}`: {}", path, std::strerror(errno)), errno};
    unlink(staged.c_str());
    return error;
  }
  if (fd_ >= 0) {
    close(fd_);
  }
  fd_ = fd.Release();
  return {};
}

void FetchRecord::Add(uint64_t from, uint64_t to) {
  if (fd_ >= 0 && !WriteAll(fd_, fmt::format("{} {}\n", from, to))) {
    close(fd_);
    fd_ = -1;
  }
}

}  // namespace jobc::storage
