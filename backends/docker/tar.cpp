#include "backends/docker/tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <functional>
#include <utility>

namespace jobc::docker {
namespace {

constexpr size_t kBlock = 512;
constexpr uint64_t kMostText = 1 << 20;   ///< of a name in a header of its own
constexpr uint64_t kMostOctal = 077777777777ULL;

uint64_t Padding(uint64_t size) { return (kBlock - size % kBlock) % kBlock; }

Error Cannot(const char* what, const std::string& path, int code) { return Error{fmt::format("cannot {} `{}`: {}", what, path, std::strerror(code)), code}; }

/// `27 path=stage/in/table.csv\n`: the number counts itself.
std::string PaxRecord(std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  return fmt::format("{} {}={}\n", length, key, value);
}

void Put(char* field, size_t size, std::string_view text) { std::memcpy(field, text.data(), std::min(size, text.size())); }
void PutOctal(char* field, size_t size, uint64_t value) { Put(field, size, fmt::format("{:0{}o}", value, size - 1)); }

void PutChecksum(char* block) {
  std::memset(block + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(block[i]);
  Put(block + 148, 8, fmt::format("{:06o}", sum));
  block[154] = '\0';
}

/// Octal text, or GNU's binary number.
std::optional<uint64_t> Number(std::string_view field) {
  if (!field.empty() && (static_cast<unsigned char>(field[0]) & 0x80) != 0) {
    uint64_t out = static_cast<unsigned char>(field[0]) & 0x7F;
    for (char c : field.substr(1)) {
      if (out >> 55 != 0) return std::nullopt;
      out = out << 8 | static_cast<unsigned char>(c);
    }
    return out;
  }
  uint64_t out = 0;
  for (char c : field) {
    if (c >= '0' && c <= '7') {
      out = out * 8 + static_cast<uint64_t>(c - '0');
    } else if (c != ' ' && c != '\0') {
      return std::nullopt;
    }
  }
  return out;
}

std::string Text(std::string_view field) { return std::string(field.substr(0, field.find('\0'))); }

}  // namespace

// ---- out of here ----

TarMaker::TarMaker(std::vector<TarTree> trees, int64_t uid, int64_t gid) : uid_(uid), gid_(gid) {
  for (TarTree& tree : trees) {
    elsewhere_.insert(tree.name);
    todo_.push_back({std::move(tree.source), std::move(tree.name), tree.read_only, tree.is_program});
  }
}

void TarMaker::AddHeader(std::string name, char type, uint64_t size, uint32_t mode, bool read_only, int64_t mtime, const std::string& link) {
  const auto uid = static_cast<uint64_t>(read_only ? 0 : uid_), gid = static_cast<uint64_t>(read_only ? 0 : gid_);
  std::string pax;
  if (name.size() > 100) pax += PaxRecord("path", name);
  if (link.size() > 100) pax += PaxRecord("linkpath", link);
  if (size > kMostOctal) pax += PaxRecord("size", std::to_string(size));
  if (uid > 07777777) pax += PaxRecord("uid", std::to_string(uid));
  if (gid > 07777777) pax += PaxRecord("gid", std::to_string(gid));
  auto block = [&](std::string_view named, char kind, uint64_t bytes, std::string_view to) {
    char header[kBlock] = {};
    Put(header, 100, named);
    PutOctal(header + 100, 8, mode & 07777);
    PutOctal(header + 108, 8, uid > 07777777 ? 0 : uid);
    PutOctal(header + 116, 8, gid > 07777777 ? 0 : gid);
    PutOctal(header + 124, 12, bytes > kMostOctal ? 0 : bytes);
    PutOctal(header + 136, 12, static_cast<uint64_t>(std::clamp<int64_t>(mtime, 0, static_cast<int64_t>(kMostOctal))));
    header[156] = kind;
    Put(header + 157, 100, to);
    std::memcpy(header + 257, "ustar\00000", 8);
    PutChecksum(header);
    ready_.append(header, kBlock);
  };
  if (!pax.empty()) {
    block("pax", 'x', pax.size(), "");
    ready_ += pax;
    ready_.append(Padding(pax.size()), '\0');
  }
  block(name, type, size, link);
}

Result<void> TarMaker::Next(const Item& item) {
  struct stat info;
  if (lstat(item.source.c_str(), &info) != 0) return Cannot("read", item.source, errno);
  uint32_t mode = info.st_mode & 0777;
  if (item.read_only) mode = (mode & 0111) != 0 || item.is_program ? 0555 : 0444;
  if (S_ISDIR(info.st_mode)) {
    AddHeader(item.name + "/", '5', 0, item.read_only ? 0555 : mode, item.read_only, info.st_mtim.tv_sec, "");
    DIR* dir = opendir(item.source.c_str());
    if (dir == nullptr) return Cannot("read", item.source, errno);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    closedir(dir);
    std::sort(names.begin(), names.end(), std::greater<>());
    for (const std::string& name : names) {
      std::string inside = item.name + "/" + name;
      if (elsewhere_.contains(inside)) continue;
      todo_.push_front({item.source + "/" + name, std::move(inside), item.read_only, item.is_program});
    }
    return {};
  }
  if (S_ISLNK(info.st_mode)) {
    std::string target(PATH_MAX, '\0');
    const ssize_t size = readlink(item.source.c_str(), target.data(), target.size());
    if (size < 0) return Cannot("read", item.source, errno);
    target.resize(static_cast<size_t>(size));
    AddHeader(item.name, '2', 0, 0777, item.read_only, info.st_mtim.tv_sec, target);
    return {};
  }
  if (!S_ISREG(info.st_mode)) return {};
  file_ = process::UniqueFd(open(item.source.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file_.get() < 0 || fstat(file_.get(), &info) != 0) return Cannot("read", item.source, errno);
  file_name_ = item.source;
  left_ = static_cast<uint64_t>(info.st_size);
  padding_ = Padding(left_);
  AddHeader(item.name, '0', left_, mode, item.read_only, info.st_mtim.tv_sec, "");
  return {};
}

Result<size_t> TarMaker::Read(char* into, size_t size) {
  size_t out = 0;
  while (out < size) {
    if (taken_ < ready_.size()) {
      const size_t count = std::min(size - out, ready_.size() - taken_);
      std::memcpy(into + out, ready_.data() + taken_, count);
      taken_ += count;
      out += count;
      continue;
    }
    ready_.clear();
    taken_ = 0;
    if (left_ > 0) {
      const ssize_t count = read(file_.get(), into + out, static_cast<size_t>(std::min<uint64_t>(size - out, left_)));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Cannot("read", file_name_, errno);
      if (count == 0) return Error{fmt::format("`{}` became shorter while it was read", file_name_)};
      left_ -= static_cast<uint64_t>(count);
      out += static_cast<size_t>(count);
      continue;
    }
    if (padding_ > 0) {
      ready_.assign(static_cast<size_t>(std::exchange(padding_, 0)), '\0');
      continue;
    }
    file_ = process::UniqueFd();
    if (todo_.empty()) {
      if (ended_) break;
      ended_ = true;
      ready_.assign(2 * kBlock, '\0');
      continue;
    }
    const Item item = std::move(todo_.front());
    todo_.pop_front();
    if (auto next = Next(item); !next) return next.error();
  }
  return out;
}

// ---- and back ----

Result<void> TarTaker::Feed(std::string_view bytes) {
  while (!bytes.empty() && !ended_) {
    if (left_ > 0) {
      const auto count = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
      if (into_ == Into::File) {
        for (size_t done = 0; done < count;) {
          const ssize_t written = write(file_.get(), bytes.data() + done, count - done);
          if (written < 0 && errno == EINTR) continue;
          if (written < 0) return Cannot("write", file_name_, errno);
          done += static_cast<size_t>(written);
        }
      } else if (into_ != Into::Nothing) {
        text_.append(bytes.substr(0, count));
      }
      left_ -= count;
      bytes.remove_prefix(count);
      if (left_ == 0) {
        if (auto ended = EndFile(); !ended) return ended;
      }
      continue;
    }
    if (padding_ > 0) {
      const auto count = static_cast<size_t>(std::min<uint64_t>(padding_, bytes.size()));
      padding_ -= count;
      bytes.remove_prefix(count);
      continue;
    }
    const size_t count = std::min(kBlock - header_.size(), bytes.size());
    header_.append(bytes.substr(0, count));
    bytes.remove_prefix(count);
    if (header_.size() < kBlock) break;
    if (auto read = Header(); !read) return read;
    header_.clear();
  }
  return {};
}

Result<void> TarTaker::Header() {
  const std::string_view block = header_;
  if (std::all_of(block.begin(), block.end(), [](char c) { return c == '\0'; })) {
    ended_ = true;
    return {};
  }
  unsigned sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
  const auto said = Number(block.substr(148, 8)), size = Number(block.substr(124, 12)), mode = Number(block.substr(100, 8)), mtime = Number(block.substr(136, 12));
  if (!said || *said != sum || !size || !mode) return Error{"what the engine sends is no archive"};
  const char type = block[156];
  left_ = *size;
  text_.clear();
  if (type == 'x' || type == 'g' || type == 'L' || type == 'K') {
    if (left_ > kMostText) return Error{"the archive of the engine has a name without end"};
    into_ = type == 'x' ? Into::Pax : type == 'L' ? Into::LongName : type == 'K' ? Into::LongLink : Into::Nothing;
    padding_ = Padding(left_);
    return {};
  }
  std::string name = next_name_, link = next_link_;
  if (name.empty()) {
    const std::string prefix = block.substr(257, 6) == std::string_view("ustar\0", 6) ? Text(block.substr(345, 155)) : std::string();
    name = (prefix.empty() ? "" : prefix + "/") + Text(block.substr(0, 100));
  }
  if (link.empty()) link = Text(block.substr(157, 100));
  if (next_size_ >= 0) left_ = static_cast<uint64_t>(next_size_);
  next_name_.clear();
  next_link_.clear();
  next_size_ = -1;
  into_ = Into::Nothing;
  const bool plain = type == '0' || type == '\0' || type == '7';
  if (!plain) left_ = 0;
  padding_ = Padding(left_);
  if (auto begun = Begin(std::move(name), plain ? '0' : type, static_cast<uint32_t>(*mode & 0777), static_cast<int64_t>(mtime.value_or(0)), link); !begun) return begun;
  return left_ == 0 ? EndFile() : Result<void>{};
}

Result<int> TarTaker::Parent(const std::string& name, std::string& last) {
  if (root_.get() < 0) {
    root_ = process::UniqueFd(open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (root_.get() < 0) return Cannot("write to", dir_, errno);
  }
  const size_t slash = name.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : name.substr(0, slash);
  last = name.substr(slash == std::string::npos ? 0 : slash + 1);
  if (parent.empty()) return root_.get();
  if (parent == parent_name_) return parent_.get();
  process::UniqueFd at;
  for (size_t begin = 0; begin <= parent.size();) {
    const size_t end = std::min(parent.find('/', begin), parent.size());
    const std::string part = parent.substr(begin, end - begin);
    at = process::UniqueFd(openat(at.get() < 0 ? root_.get() : at.get(), part.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (at.get() < 0) return Cannot("write to", dir_ + "/" + parent, errno);
    begin = end + 1;
  }
  parent_ = std::move(at);
  parent_name_ = parent;
  return parent_.get();
}

Result<void> TarTaker::Begin(std::string name, char type, uint32_t mode, int64_t mtime, const std::string& link) {
  auto inside = [](std::string& path) {
    while (path.ends_with('/')) path.pop_back();
    while (path.starts_with("./")) path.erase(0, 2);
    if (path.empty() || path.front() == '/') return false;
    for (size_t at = 0; at <= path.size();) {
      const size_t end = std::min(path.find('/', at), path.size());
      const std::string_view part = std::string_view(path).substr(at, end - at);
      if (part.empty() || part == "." || part == "..") return false;
      at = end + 1;
    }
    return true;
  };
  auto below = [](const std::string& path) { return path.find('/') == std::string::npos ? std::string() : path.substr(path.find('/') + 1); };
  if (!inside(name)) return Error{fmt::format("the archive of the engine names `{}`, which lies outside of what was asked for", name)};
  if (!only_.empty()) {
    if (name != only_ || type != '0' || found_) return {};
    found_ = true;
  } else {
    name = below(name);
    if (name.empty()) return {};  // the directory itself
  }
  std::string last;
  const auto parent = Parent(name, last);
  if (!parent) return parent.error();
  file_name_ = dir_ + "/" + name;
  if (type == '0') {
    file_ = process::UniqueFd(openat(*parent, last.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file_.get() < 0) return Cannot("create", file_name_, errno);
    file_mode_ = mode;
    file_mtime_ = mtime;
    into_ = Into::File;
  } else if (type == '5') {
    if (mkdirat(*parent, last.c_str(), 0700) != 0) return Cannot("create", file_name_, errno);
    if (mode != 0700) directories_.push_back({name, mode});
  } else if (type == '2') {
    if (symlinkat(link.c_str(), *parent, last.c_str()) != 0) return Cannot("create", file_name_, errno);
  } else if (type == '1') {
    std::string to = link;
    if (!inside(to)) return Error{fmt::format("the archive of the engine links `{}` to `{}`, which lies outside", name, link)};
    to = below(to);
    // Parent() may give its place to another directory: this one is kept open.
    const process::UniqueFd here(dup(*parent));
    std::string first;
    const auto from = Parent(to, first);
    if (!from) return from.error();
    if (linkat(*from, first.c_str(), here.get(), last.c_str(), 0) != 0) return Cannot("create", file_name_, errno);
  } else if (type == '6') {
    if (mkfifoat(*parent, last.c_str(), 0600) != 0) return Cannot("create", file_name_, errno);
  }
  return {};
}

Result<void> TarTaker::EndFile() {
  switch (std::exchange(into_, Into::Nothing)) {
    case Into::Nothing: return {};
    case Into::LongName: next_name_ = Text(text_); return {};
    case Into::LongLink: next_link_ = Text(text_); return {};
    case Into::Pax: {
      for (std::string_view rest = text_; !rest.empty();) {
        const size_t blank = rest.find(' ');
        const auto digits = rest.substr(0, blank);
        uint64_t length = 0;
        for (char c : digits) length = c >= '0' && c <= '9' && length < kMostText ? length * 10 + static_cast<uint64_t>(c - '0') : kMostText + 1;
        if (blank == std::string_view::npos || length <= blank + 1 || length > rest.size() || rest[length - 1] != '\n') return Error{"what the engine sends is no archive"};
        const std::string_view record = rest.substr(blank + 1, length - blank - 2);
        const size_t equals = std::min(record.find('='), record.size());
        const std::string_view key = record.substr(0, equals);
        const std::string value(record.substr(std::min(equals + 1, record.size())));
        if (key == "path") next_name_ = value;
        if (key == "linkpath") next_link_ = value;
        if (key == "size") {
          next_size_ = 0;
          for (char c : value) {
            if (c < '0' || c > '9' || next_size_ > INT64_MAX / 100) return Error{"what the engine sends is no archive"};
            next_size_ = next_size_ * 10 + (c - '0');
          }
        }
        rest.remove_prefix(length);
      }
      return {};
    }
    case Into::File: break;
  }
  const timespec times[2] = {{0, UTIME_OMIT}, {file_mtime_, 0}};
  if (fchmod(file_.get(), file_mode_) != 0 || futimens(file_.get(), times) != 0) return Cannot("write", file_name_, errno);
  file_ = process::UniqueFd();
  return {};
}

Result<void> TarTaker::End() {
  // Some leave out the two empty blocks.
  if (!header_.empty() || left_ > 0 || padding_ > 0) return Error{"the archive of the engine ends in the middle"};
  for (auto at = directories_.rbegin(); at != directories_.rend(); ++at) {
    std::string last;
    const auto parent = Parent(at->name, last);
    if (!parent) return parent.error();
    const process::UniqueFd dir(openat(*parent, last.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (dir.get() < 0 || fchmod(dir.get(), at->mode | 0700) != 0) return Cannot("write to", dir_ + "/" + at->name, errno);
  }
  return {};
}

}  // namespace jobc::docker
