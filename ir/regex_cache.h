// Compiled patterns by text. Belongs to ir/ only: includes RE2.
#pragma once

#include <re2/re2.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "ir/regex.h"

namespace jobc::ir {

/// Not thread-safe. The returned pointers live as long as the cache.
class RegexCache {
 public:
  /// nullptr with `why` filled if the pattern is not accepted.
  const re2::RE2* Get(const std::string& pattern, std::string& why);

 private:
  struct Entry {
    std::unique_ptr<re2::RE2> regex;
    std::string why;
  };
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace jobc::ir
