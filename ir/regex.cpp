#include "ir/regex.h"

#include "ir/regex_cache.h"

namespace jobc::ir {
namespace {

std::unique_ptr<re2::RE2> Compile(const std::string& pattern, std::string& why) {
  re2::RE2::Options options;
  options.set_never_nl(false);
  options.set_longest_match(false);
  options.set_encoding(re2::RE2::Options::EncodingUTF8);
  options.set_log_errors(false);
  auto regex = std::make_unique<re2::RE2>(pattern, options);
  constexpr size_t kBytesPerInstruction = 16;
  if (regex->ok()) {
    if (static_cast<size_t>(regex->ProgramSize()) * kBytesPerInstruction <= kMaxRegexProgramBytes) return regex;
    why = "the pattern is too large: it compiles to more than 1 MiB";
  } else if (regex->error_code() == re2::RE2::ErrorPatternTooLarge) {
    why = "the pattern is too large: it compiles to more than 1 MiB";
  } else {
    why = regex->error();
  }
  return nullptr;
}

}  // namespace

const re2::RE2* RegexCache::Get(const std::string& pattern, std::string& why) {
  auto [it, added] = entries_.try_emplace(pattern);
  if (added) it->second.regex = Compile(pattern, it->second.why);
  why = it->second.why;
  return it->second.regex.get();
}

Result<void> CheckPattern(std::string_view pattern) {
  std::string why;
  if (Compile(std::string(pattern), why)) return {};
  return Error{why};
}

}  // namespace jobc::ir
