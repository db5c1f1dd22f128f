// Hides secrets in everything jobc shows or keeps: log streams, messages, events. Hidden are the exact value, each of
// its lines of at least 6 bytes, and the base64, URL-escaped and JSON-escaped forms of these. Made at the start of
// a run, from the values of its secrets; it only grows, by values that a taken over attempt was given. A secret below 6 bytes
// is not masked (the compiler warns).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jobc {

inline constexpr std::string_view kMask = "***";
inline constexpr size_t kMinMasked = 6;

class Masker {
 public:
  /// Values of the run's secrets; those too short are ignored.
  explicit Masker(const std::vector<std::string>& secrets = {}) { Add(secrets); }
  /// These are hidden as well from now on. Not while another thread looks at it.
  void Add(const std::vector<std::string>& secrets);

  bool empty() const { return patterns_.empty(); }
  bool Contains(std::string_view text) const;
  std::string Mask(std::string_view text) const;
  /// What `text` holds between the values that are hidden, in order: one part more than there are values.
  std::vector<std::string_view> PartsBetween(std::string_view text) const;
  /// Everything to hide, for filters of log streams.
  const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  /// Length of the longest pattern that starts at `at`; 0 if none does.
  size_t MatchAt(std::string_view text, size_t at) const;

  std::vector<std::string> patterns_;            ///< longest first
  std::vector<std::vector<uint32_t>> by_first_;  ///< pattern numbers by first byte
};

/// What stood in `then` where `now`, a text of the same form, holds values that `masker` hides. All of `then` if it has another form;
/// nothing where both are the same.
std::vector<std::string> FormerSecrets(const Masker& masker, std::string_view now, std::string_view then);

}  // namespace jobc
