#include "runtime/glob.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace jobc {
namespace {

constexpr size_t kMaxAlternatives = 1000;

/// The end of the bracket expression that starts at `at`, or npos.
size_t BracketEnd(std::string_view pattern, size_t at) {
  size_t i = at + 1;
  if (i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^')) {
    ++i;
  }
  if (i < pattern.size() && pattern[i] == ']') {
    ++i;  // a `]` that comes first is an element
  }
  return pattern.find(']', i);
}

bool InBracket(std::string_view set, char c) {
  bool negated = !set.empty() && (set[0] == '!' || set[0] == '^');
  size_t i = negated ? 1 : 0;
  bool found = false;
  unsigned char wanted = static_cast<unsigned char>(c);
  while (i < set.size()) {
    unsigned char low = static_cast<unsigned char>(set[i]);
    unsigned char high = low;
    if (i + 2 < set.size() && set[i + 1] == '-') {
      high = static_cast<unsigned char>(set[i + 2]);
      i += 3;
    } else {
      ++i;
    }
    found = found || (low <= wanted && wanted <= high);
  }
  return found != negated;
}

Result<void> ExpandBraces(std::string_view pattern, std::string prefix, std::vector<std::string>& out) {
  size_t i = 0;
  while (i < pattern.size() && pattern[i] != '{') {
    if (pattern[i] == '[') {
      size_t end = BracketEnd(pattern, i);
      if (end == std::string_view::npos) {
        return Error{fmt::format("`[` at character {} is not closed", i + 1)};
      }
      prefix.append(pattern.substr(i, end - i));
      i = end;
    }
    prefix += pattern[i++];
  }
  if (i == pattern.size()) {
    if (out.size() >= kMaxAlternatives) {
      return Error{fmt::format("more than {} alternatives", kMaxAlternatives)};
    }
    out.push_back(std::move(prefix));
    return {};
  }
  std::vector<std::string_view> parts;
  size_t depth = 0;
  size_t begin = i + 1;
  size_t end = std::string_view::npos;
  for (size_t k = i; k < pattern.size(); ++k) {
    if (pattern[k] == '{') {
      ++depth;
    } else if (pattern[k] == ',' && depth == 1) {
      parts.push_back(pattern.substr(begin, k - begin));
      begin = k + 1;
    } else if (pattern[k] == '}' && --depth == 0) {
      parts.push_back(pattern.substr(begin, k - begin));
      end = k;
      break;
    }
  }
  if (end == std::string_view::npos) {
    return Error{"`{` is not closed"};
  }
  for (std::string_view part : parts) {
    std::string rest = std::string(part) + std::string(pattern.substr(end + 1));
    if (auto done = ExpandBraces(rest, prefix, out); !done) {
      return done;
    }
  }
  return {};
}

bool MatchPath(const std::vector<std::string>& pattern, size_t p, const std::vector<std::string_view>& path, size_t s) {
  if (p == pattern.size()) {
    return s == path.size();
  }
  if (pattern[p] == "**") {
    for (size_t skip = s;; ++skip) {
      if (MatchPath(pattern, p + 1, path, skip)) {
        return true;
      }
      if (skip == path.size() || path[skip].empty() || path[skip][0] == '.') {
        return false;
      }
    }
  }
  return s < path.size() && MatchSegment(pattern[p], path[s]) && MatchPath(pattern, p + 1, path, s + 1);
}

bool HasWildcard(std::string_view segment) { return segment.find_first_of("*?[") != std::string_view::npos; }

class Walk {
 public:
  Walk(const std::string& root, const std::vector<std::string>& pattern, bool directories, std::vector<std::string>& out)
      : root_(root), pattern_(pattern), directories_(directories), out_(out) {}

  Result<void> Visit(const std::string& dir, size_t p) {
    const std::string& segment = pattern_[p];
    bool last = p + 1 == pattern_.size();
    if (segment == "**") {
      if (last) {
        // A closing `**` means everything below.
        return ForEach(dir, [&](const std::string& path, std::string_view name, const struct stat& info, bool link) -> Result<void> {
          if (name[0] == '.') {
            return {};
          }
          Take(path, info);
          return S_ISDIR(info.st_mode) && !link ? Visit(path, p) : Result<void>();
        });
      }
      if (auto here = Visit(dir, p + 1); !here) {
        return here;
      }
      return ForEach(dir, [&](const std::string& path, std::string_view name, const struct stat& info, bool link) -> Result<void> {
        return name[0] != '.' && S_ISDIR(info.st_mode) && !link ? Visit(path, p) : Result<void>();
      });
    }
    if (!HasWildcard(segment)) {
      std::string path = dir.empty() ? segment : dir + "/" + segment;
      struct stat info;
      if (stat((root_ + "/" + path).c_str(), &info) != 0) {
        return {};
      }
      if (last) {
        Take(path, info);
        return {};
      }
      return S_ISDIR(info.st_mode) ? Visit(path, p + 1) : Result<void>();
    }
    return ForEach(dir, [&](const std::string& path, std::string_view name, const struct stat& info, bool) -> Result<void> {
      if (!MatchSegment(segment, name)) {
        return {};
      }
      if (last) {
        Take(path, info);
        return {};
      }
      return S_ISDIR(info.st_mode) ? Visit(path, p + 1) : Result<void>();
    });
  }

 private:
  void Take(const std::string& path, const struct stat& info) {
    if (directories_ ? S_ISDIR(info.st_mode) : S_ISREG(info.st_mode)) {
      out_.push_back(path);
    }
  }

  template <typename Fn>
  Result<void> ForEach(const std::string& dir, Fn visit) {
    std::string full = dir.empty() ? root_ : root_ + "/" + dir;
    DIR* stream = opendir(full.c_str());
    if (stream == nullptr) {
      return Error{fmt::format("cannot read the directory `{}`: {}", dir.empty() ? "." : dir, std::strerror(errno)), errno};
    }
    std::vector<std::string> names;
    while (dirent* entry = readdir(stream)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    closedir(stream);
    for (const std::string& name : names) {
      std::string path = dir.empty() ? name : dir + "/" + name;
      std::string absolute = root_ + "/" + path;
      struct stat info;
      if (lstat(absolute.c_str(), &info) != 0) {
        continue;
      }
      bool link = S_ISLNK(info.st_mode);
      if (link && stat(absolute.c_str(), &info) != 0) {
        continue;  // leads nowhere
      }
      if (auto done = visit(path, std::string_view(name), info, link); !done) {
        return done;
      }
    }
    return {};
  }

  const std::string& root_;
  const std::vector<std::string>& pattern_;
  bool directories_;
  std::vector<std::string>& out_;
};

}  // namespace

bool MatchSegment(std::string_view pattern, std::string_view name) {
  if (name.empty()) {
    return false;  // there is no such file
  }
  if (name[0] == '.' && (pattern.empty() || pattern[0] != '.')) {
    return false;
  }
  // Greedy with one point to go back to: linear in practice, quadratic at worst.
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
      continue;
    }
    bool matched = false;
    size_t next = p + 1;
    if (p < pattern.size()) {
      if (pattern[p] == '?') {
        matched = true;
        // `?` is one character of UTF-8 text, not one byte of it.
        while (n + 1 < name.size() && (static_cast<unsigned char>(name[n + 1]) & 0xc0) == 0x80) {
          ++n;
        }
      } else if (pattern[p] == '[') {
        size_t end = BracketEnd(pattern, p);
        matched = end != std::string_view::npos && InBracket(pattern.substr(p + 1, end - p - 1), name[n]);
        next = end + 1;
      } else {
        matched = pattern[p] == name[n];
      }
    }
    if (matched) {
      p = next;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') {
    ++p;
  }
  return p == pattern.size();
}

Result<Glob> Glob::Parse(std::string_view pattern) {
  auto fail = [&](std::string why) { return Error{fmt::format("the glob `{}` cannot be used: {}", pattern, why)}; };
  if (pattern.empty()) {
    return fail("it is empty");
  }
  std::vector<std::string> texts;
  if (auto expanded = ExpandBraces(pattern, "", texts); !expanded) {
    return fail(expanded.error().message);
  }
  Glob glob;
  for (const std::string& text : texts) {
    if (text.empty() || text[0] == '/') {
      return fail("it must be relative to the output directory");
    }
    std::vector<std::string> segments;
    for (size_t begin = 0; begin <= text.size();) {
      size_t end = std::min(text.find('/', begin), text.size());
      std::string segment = text.substr(begin, end - begin);
      if (segment == "..") {
        return fail("`..` leaves the output directory");
      }
      if (!segment.empty() && segment != ".") {
        segments.push_back(std::move(segment));
      }
      begin = end + 1;
    }
    if (segments.empty()) {
      return fail("it names nothing");
    }
    glob.alternatives_.push_back(std::move(segments));
  }
  return glob;
}

bool Glob::Matches(std::string_view path) const {
  std::vector<std::string_view> segments;
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    segments.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const auto& pattern : alternatives_) {
    if (MatchPath(pattern, 0, segments, 0)) {
      return true;
    }
  }
  return false;
}

Result<std::vector<std::string>> Glob::Find(const std::string& root, bool directories) const {
  std::vector<std::string> found;
  for (const auto& pattern : alternatives_) {
    Walk walk(root, pattern, directories, found);
    if (auto done = walk.Visit("", 0); !done) {
      return done.error();
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace jobc
