// How wide text is on a terminal, and how to show text that may hold anything. Used by the diagnostics renderer and
// the status printer, so that carets and columns line up for tabs, combining marks, East Asian text and emoji alike.
// Pure functions; no locale is consulted, all text is taken as UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace jobc {

/// One character of a text that may not be valid UTF-8. An invalid byte is a character of its own with size 1.
struct Utf8Char {
  char32_t value = 0;  ///< the scalar value; the byte itself if not `valid`
  uint32_t size = 1;
  bool valid = true;
};

/// The character at byte `at`, which must be inside `text`. Overlong forms and surrogates are invalid.
Utf8Char DecodeUtf8(std::string_view text, size_t at);

/// Columns a terminal uses for `c`: 0 for combining marks, 2 for wide ones, -1 for what must not be printed as it is:
/// control characters, and formatting characters that change the order or visibility of what follows them.
int DisplayWidth(char32_t c);

/// `c` as it may safely be printed: `␛` for controls, `<U+202E>` for other unprintable ones, `<FF>` for invalid bytes,
/// else itself.
std::string VisibleChar(const Utf8Char& c, std::string_view text, size_t at);

/// A single line of text made safe to print: as VisibleChar(), with tabs and line breaks shown as spaces.
std::string VisibleText(std::string_view text);

/// The columns used by `text`, which has gone through VisibleText().
int DisplayWidth(std::string_view text);

/// `text` cut to at most `width` columns, the last of which is then `…`. `text` has gone through VisibleText().
std::string FitToWidth(std::string_view text, int width);

}  // namespace jobc
