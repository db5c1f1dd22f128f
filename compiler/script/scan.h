// What the three scanners of compiler/script share: the script as a sequence of units (bytes and holes) and the answer for
// each hole. Private to this folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/script/script.h"

namespace jobc::script {

/// One byte of the text, or a hole (`kFirstHole` + its index), with its offset in Template::text.
struct Unit {
  uint32_t value = 0;
  uint32_t offset = 0;
};

inline constexpr uint32_t kFirstHole = 256;
inline constexpr uint32_t kEnd = UINT32_MAX;
/// Deeper nesting is not followed: holes in it are E403.
inline constexpr int kMaxDepth = 150;

inline bool IsHole(uint32_t value) { return value >= kFirstHole && value != kEnd; }
inline uint32_t HoleOf(uint32_t value) { return value - kFirstHole; }
inline bool IsDigit(uint32_t c) { return c >= '0' && c <= '9'; }
inline bool IsNameStart(uint32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
inline bool IsNameChar(uint32_t c) { return IsNameStart(c) || IsDigit(c); }

std::vector<Unit> Units(const Template& source);

/// The answers. A hole is `seen` once its place is known; the first error of a hole wins, a warning gives way to an error.
struct Scan {
  explicit Scan(const Template& source) : source(source), references(source.holes.size()), seen(source.holes.size()) {}

  const Template& source;
  std::vector<std::string> references;
  std::vector<bool> seen;
  std::vector<Finding> findings;
  /// Where Python's prelude goes when it cannot stand on a line before the first (after `from __future__ import`).
  uint32_t prelude_offset = UINT32_MAX;

  const Hole& hole(uint32_t index) const { return source.holes[index]; }
  /// The hole as written: `~{x}`, `~{xs...}`.
  std::string Written(uint32_t index) const;
  void Report(Code code, uint32_t hole, std::string message, std::string label, std::string help);
  bool HasError(uint32_t hole) const;

 private:
  std::vector<uint8_t> state_;  // per hole: 0 none, 1 warning, 2 error
};

/// `names[i]` is the variable of hole i. Fill `scan` for every hole.
void ScanShell(const std::vector<std::string>& names, Scan& scan);
void ScanPython(const std::vector<std::string>& names, Scan& scan);
void ScanR(const std::vector<std::string>& names, Scan& scan);

}  // namespace jobc::script
