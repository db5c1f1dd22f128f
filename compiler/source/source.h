// The texts a compilation works on. Stage 0: read files, check that they are UTF-8 of bearable size, find lines.
// The SourceManager owns every text until the end of the compilation; all spans and string_views point into it.
// Single-threaded.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/id.h"
#include "support/result.h"

namespace jobc {

struct Source;
using SourceId = Id<Source>;

/// Half-open byte range [begin, end) of one source. An invalid `source` means "no place".
struct Span {
  SourceId source;
  uint32_t begin = 0;
  uint32_t end = 0;

  bool valid() const { return source.valid(); }
  auto operator<=>(const Span&) const = default;
};

/// One-based, as editors count. `column` counts Unicode scalar values, not bytes.
struct LineColumn {
  uint32_t line = 1;
  uint32_t column = 1;
};

struct Source {
  std::string name;       ///< as shown to people: the path as it was given, or `std/python`
  std::string path;       ///< where it was read from, empty for embedded modules
  std::string directory;  ///< relative paths in this source start here ("" = working directory)
  std::string text;
  std::vector<uint32_t> line_starts;  ///< byte offset of each line's first byte
  /// Scalar values before each block of kColumnBlock bytes; filled when a column in a long line is first asked for.
  mutable std::vector<uint32_t> scalars_before;
};

inline constexpr uint32_t kColumnBlock = 4096;

/// Files larger than this are refused (E013) before they are read.
inline constexpr uint64_t kMaxSourceBytes = uint64_t{64} << 20;

class SourceManager {
 public:
  /// Reads a file. Fails (errno in `code`) when it cannot be read or is larger than kMaxSourceBytes (EFBIG).
  /// The text may still hold invalid UTF-8 or NUL bytes: the parser reports those with positions.
  Result<SourceId> Load(const std::string& path, std::string_view shown_name = {});
  /// Adds a text that does not come from a file (embedded modules, tests, editors' buffers).
  SourceId Add(std::string name, std::string text, std::string directory = "");

  const Source& operator[](SourceId id) const { return *sources_[id.index]; }
  size_t size() const { return sources_.size(); }
  std::string_view Text(Span span) const;
  LineColumn Locate(SourceId source, uint32_t offset) const;
  /// The line's text without its line break. `line` is one-based.
  std::string_view Line(SourceId source, uint32_t line) const;

 private:
  std::vector<std::unique_ptr<Source>> sources_;
};

}  // namespace jobc
