// Globs of `output`: `*`, `?`, `[…]`, `**`, `{a,b}` over paths below one directory. A wildcard never matches a leading
// dot or a `/`; `**` alone in a segment stands for any number of directories and does not enter links. Results are in
// byte order, each once. Used by results.cpp; keeps no state.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace jobc {

class Glob {
 public:
  /// Fails on an empty or absolute pattern, on `.`/`..` segments, on unclosed `[` or `{` and on more than 1,000
  /// alternatives; the message says which.
  static Result<Glob> Parse(std::string_view pattern);

  /// Whether the relative path `path` matches.
  bool Matches(std::string_view path) const;

  /// Paths below `root` that match and are regular files (or directories, or links to such).
  Result<std::vector<std::string>> Find(const std::string& root, bool directories) const;

 private:
  std::vector<std::vector<std::string>> alternatives_;  ///< each a list of segments
};

/// One path segment against one pattern segment.
bool MatchSegment(std::string_view pattern, std::string_view name);

}  // namespace jobc
