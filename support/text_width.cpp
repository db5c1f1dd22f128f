#include "support/text_width.h"

#include <fmt/format.h>
#include <llvm/ADT/StringRef.h>
#include <llvm/Support/Unicode.h>

#include <algorithm>
#include <iterator>

namespace jobc {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

template <size_t N>
bool Contains(const Range (&ranges)[N], char32_t c) {
  const Range* const found =
      std::upper_bound(std::begin(ranges), std::end(ranges), c, [](char32_t value, const Range& r) { return value < r.first; });
  return found != std::begin(ranges) && c <= (found - 1)->last;
}

// Characters with emoji presentation (Unicode 15, emoji-data.txt), which LLVM 14's table of wide characters lacks.
constexpr Range kWideEmoji[] = {
    {0x231A, 0x231B},   {0x23E9, 0x23EC},   {0x23F0, 0x23F0},   {0x23F3, 0x23F3},   {0x25FD, 0x25FE},
    {0x2614, 0x2615},   {0x2648, 0x2653},   {0x267F, 0x267F},   {0x2693, 0x2693},   {0x26A1, 0x26A1},
    {0x26AA, 0x26AB},   {0x26BD, 0x26BE},   {0x26C4, 0x26C5},   {0x26CE, 0x26CE},   {0x26D4, 0x26D4},
    {0x26EA, 0x26EA},   {0x26F2, 0x26F3},   {0x26F5, 0x26F5},   {0x26FA, 0x26FA},   {0x26FD, 0x26FD},
    {0x2705, 0x2705},   {0x270A, 0x270B},   {0x2728, 0x2728},   {0x274C, 0x274C},   {0x274E, 0x274E},
    {0x2753, 0x2755},   {0x2757, 0x2757},   {0x2795, 0x2797},   {0x27B0, 0x27B0},   {0x27BF, 0x27BF},
    {0x2B1B, 0x2B1C},   {0x2B50, 0x2B50},   {0x2B55, 0x2B55},   {0x1F004, 0x1F004}, {0x1F0CF, 0x1F0CF},
    {0x1F18E, 0x1F18E}, {0x1F191, 0x1F19A}, {0x1F1E6, 0x1F202}, {0x1F21A, 0x1F21A}, {0x1F22F, 0x1F22F},
    {0x1F232, 0x1F236}, {0x1F238, 0x1F23A}, {0x1F250, 0x1F251}, {0x1F300, 0x1F320}, {0x1F32D, 0x1F335},
    {0x1F337, 0x1F37C}, {0x1F37E, 0x1F393}, {0x1F3A0, 0x1F3CA}, {0x1F3CF, 0x1F3D3}, {0x1F3E0, 0x1F3F0},
    {0x1F3F4, 0x1F3F4}, {0x1F3F8, 0x1F43E}, {0x1F440, 0x1F440}, {0x1F442, 0x1F4FC}, {0x1F4FF, 0x1F53D},
    {0x1F54B, 0x1F54E}, {0x1F550, 0x1F567}, {0x1F57A, 0x1F57A}, {0x1F595, 0x1F596}, {0x1F5A4, 0x1F5A4},
    {0x1F5FB, 0x1F64F}, {0x1F680, 0x1F6C5}, {0x1F6CC, 0x1F6CC}, {0x1F6D0, 0x1F6D2}, {0x1F6D5, 0x1F6D7},
    {0x1F6DC, 0x1F6DF}, {0x1F6EB, 0x1F6EC}, {0x1F6F4, 0x1F6FC}, {0x1F7E0, 0x1F7EB}, {0x1F7F0, 0x1F7F0},
    {0x1F90C, 0x1F93A}, {0x1F93C, 0x1F945}, {0x1F947, 0x1F9FF}, {0x1FA70, 0x1FAFF},
};

// Marks, joiners and directional controls that would hide or reorder source text (Unicode TR 36).
constexpr Range kDeceptive[] = {
    {0x00AD, 0x00AD}, {0x061C, 0x061C}, {0x180E, 0x180E}, {0x200B, 0x200B}, {0x200E, 0x200F}, {0x2028, 0x202E},
    {0x2060, 0x2064}, {0x2066, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE007F},
};

}  // namespace

Utf8Char DecodeUtf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {lead, 1, true};
  const Utf8Char invalid = {lead, 1, false};
  const uint32_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (size == 0 || lead > 0xF4 || text.size() - at < size) return invalid;
  char32_t value = lead & (0xFFu >> (size + 1));
  for (uint32_t i = 1; i < size; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return invalid;
    value = (value << 6) | (byte(at + i) & 0x3F);
  }
  const char32_t smallest = size == 4 ? 0x10000 : size == 3 ? 0x800 : 0x80;
  if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return invalid;
  return {value, size, true};
}

int DisplayWidth(char32_t c) {
  if (c >= 0x20 && c < 0x7F) return 1;
  if (c < 0xA0 || Contains(kDeceptive, c)) return -1;
  if (c == 0x200C || c == 0x200D || (c >= 0xFE00 && c <= 0xFE0F)) return 0;  // joiners, variation selectors
  if (Contains(kWideEmoji, c)) return 2;
  char utf8[4];
  size_t size = 0;
  if (c < 0x800) {
    utf8[size++] = static_cast<char>(0xC0 | (c >> 6));
  } else {
    if (c < 0x10000) {
      utf8[size++] = static_cast<char>(0xE0 | (c >> 12));
    } else {
      utf8[size++] = static_cast<char>(0xF0 | (c >> 18));
      utf8[size++] = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    }
    utf8[size++] = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
  }
  utf8[size++] = static_cast<char>(0x80 | (c & 0x3F));
  const int width = llvm::sys::unicode::columnWidthUTF8(llvm::StringRef(utf8, size));
  // Characters newer than LLVM's tables count as one column, as they do in most terminals.
  return width < 0 ? 1 : width;
}

std::string VisibleChar(const Utf8Char& c, std::string_view text, size_t at) {
  if (!c.valid) return fmt::format("<{:02X}>", static_cast<uint32_t>(c.value));
  if (c.value < 0x20) return {'\xE2', '\x90', static_cast<char>(0x80 + c.value)};  // U+2400 + c
  if (c.value == 0x7F) return "\xE2\x90\xA1";                                      // U+2421
  if (DisplayWidth(c.value) < 0) return fmt::format("<U+{:04X}>", static_cast<uint32_t>(c.value));
  return std::string(text.substr(at, c.size));
}

std::string VisibleText(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text, at);
    if (c.value == '\t' || c.value == '\n' || c.value == '\r') {
      out += ' ';
    } else {
      out += VisibleChar(c, text, at);
    }
    at += c.size;
  }
  return out;
}

int DisplayWidth(std::string_view text) {
  int width = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text, at);
    width += std::max(c.valid ? DisplayWidth(c.value) : 1, 0);
    at += c.size;
  }
  return width;
}

std::string FitToWidth(std::string_view text, int width) {
  if (width <= 0) return {};
  int used = 0;
  size_t fits = 0;  // bytes that leave room for the ellipsis
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text, at);
    const int columns = std::max(c.valid ? DisplayWidth(c.value) : 1, 0);
    if (used + columns > width) return std::string(text.substr(0, fits)) + "…";
    used += columns;
    at += c.size;
    if (used <= width - 1) fits = at;
  }
  return std::string(text);
}

}  // namespace jobc
