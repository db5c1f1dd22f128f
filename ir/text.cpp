// Text forms of numbers and quantities (evaluate.h): the same on every machine and in every locale.
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

#include "ir/evaluate.h"
#include "support/check.h"

namespace jobc::ir {
namespace {

struct Unit {
  std::string_view name;
  int64_t size;
};

constexpr std::array<Unit, 5> kDurationUnits = {
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 11> kByteUnits = {{{"PiB", int64_t{1} << 50}, {"TiB", int64_t{1} << 40}, {"GiB", int64_t{1} << 30},
                                              {"MiB", int64_t{1} << 20}, {"KiB", int64_t{1} << 10}, {"PB", 1'000'000'000'000'000},
                                              {"TB", 1'000'000'000'000}, {"GB", 1'000'000'000}, {"MB", 1'000'000},
                                              {"KB", 1000}, {"B", 1}}};

/// `[-] digits [. digits] unit`, digits with `_` between them; the product must be whole and fit into 64 bits.
template <size_t N>
bool ParseQuantity(std::string_view text, const std::array<Unit, N>& units, int64_t& out) {
  bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  unsigned __int128 mantissa = 0;
  unsigned __int128 scale = 1;
  bool point = false, digit_before = false, any = false;
  size_t i = 0;
  for (; i < text.size(); ++i) {
    char c = text[i];
    if (c >= '0' && c <= '9') {
      if (mantissa > static_cast<unsigned __int128>(1) << 90 || scale > static_cast<unsigned __int128>(1) << 90) return false;
      mantissa = mantissa * 10 + static_cast<unsigned>(c - '0');
      if (point) scale *= 10;
      digit_before = any = true;
    } else if (c == '_' && digit_before && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9') {
      digit_before = false;
    } else if (c == '.' && !point && digit_before && i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9') {
      point = true;
      digit_before = false;
    } else {
      break;
    }
  }
  if (!any) return false;
  std::string_view name = text.substr(i);
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    // Trailing zeros of the fraction do not matter: 1.50h.
    while (scale > 1 && mantissa % 10 == 0) {
      mantissa /= 10;
      scale /= 10;
    }
    unsigned __int128 size = static_cast<unsigned __int128>(unit.size);
    unsigned __int128 limit = (static_cast<unsigned __int128>(1) << 63) - (negative ? 0 : 1);
    if (mantissa != 0 && (limit * scale) / size < mantissa) return false;
    unsigned __int128 product = mantissa * size;
    if (product % scale != 0) return false;
    product /= scale;
    if (product > limit) return false;
    out = negative ? static_cast<int64_t>(-static_cast<__int128>(product)) : static_cast<int64_t>(product);
    return true;
  }
  return false;
}

uint64_t Magnitude(int64_t value) {
  return value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
}

}  // namespace

std::string DurationText(int64_t milliseconds) {
  if (milliseconds == 0) return "0s";
  for (const Unit& unit : kDurationUnits) {
    if (milliseconds % unit.size == 0) return std::to_string(milliseconds / unit.size) + std::string(unit.name);
  }
  JOBC_UNREACHABLE();
}

std::string BytesText(int64_t bytes) {
  for (auto [unit, size] : {std::pair<const char*, int64_t>{"TiB", int64_t{1} << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}) {
    if (bytes != 0 && bytes % size == 0) return std::to_string(bytes / size) + unit;
  }
  return std::to_string(bytes) + "B";
}

std::string BytesForPeople(int64_t bytes) {
  uint64_t size = Magnitude(bytes);
  std::string sign = bytes < 0 ? "-" : "";
  // Binary units where they say it exactly with at most one decimal, else decimal ones, rounded.
  for (size_t i = 0; i < 5; ++i) {
    uint64_t unit = static_cast<uint64_t>(kByteUnits[i].size);
    if (size < unit) continue;
    unsigned __int128 tenths = static_cast<unsigned __int128>(size) * 10;
    if (tenths % unit != 0) break;
    uint64_t n = static_cast<uint64_t>(tenths / unit);
    std::string text = sign + std::to_string(n / 10);
    if (n % 10 != 0) text += "." + std::to_string(n % 10);
    return text + " " + std::string(kByteUnits[i].name);
  }
  for (size_t i = 5; i < kByteUnits.size(); ++i) {
    uint64_t unit = static_cast<uint64_t>(kByteUnits[i].size);
    if (size < unit) continue;
    if (unit == 1) break;
    uint64_t tenths = static_cast<uint64_t>((static_cast<unsigned __int128>(size) * 10 + unit / 2) / unit);
    if (tenths >= 10000 && i > 5) return sign + "1 " + std::string(kByteUnits[i - 1].name);
    std::string text = sign + std::to_string(tenths / 10);
    if (tenths % 10 != 0) text += "." + std::to_string(tenths % 10);
    return text + " " + std::string(kByteUnits[i].name);
  }
  return sign + std::to_string(size) + " B";
}

std::string FloatText(double value) {
  // ECMAScript Number::toString: the shortest digits that read back, as an integer, a decimal or with an exponent.
  if (value == 0) return "0";
  std::array<char, 64> buffer;
  auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  if (error != std::errc() || !std::isfinite(value)) return "NaN";  // no Float is not finite
  std::string_view scientific(buffer.data(), static_cast<size_t>(end - buffer.data()));
  std::string out;
  if (scientific.front() == '-') {
    out = "-";
    scientific.remove_prefix(1);
  }
  size_t e = scientific.find('e');
  std::string digits(1, scientific[0]);
  if (e > 2) digits += scientific.substr(2, e - 2);
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
  int exponent = 0;
  std::string_view exponent_text = scientific.substr(e + 1);
  if (exponent_text.front() == '+') exponent_text.remove_prefix(1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  int k = static_cast<int>(digits.size());
  int n = exponent + 1;  // value = 0.digits * 10^n
  if (k <= n && n <= 21) return out + digits + std::string(static_cast<size_t>(n - k), '0');
  if (0 < n && n <= 21) return out + digits.substr(0, static_cast<size_t>(n)) + "." + digits.substr(static_cast<size_t>(n));
  if (-6 < n && n <= 0) return out + "0." + std::string(static_cast<size_t>(-n), '0') + digits;
  out += digits[0];
  if (k > 1) out += "." + digits.substr(1);
  return out + "e" + (n - 1 < 0 ? "-" : "+") + std::to_string(std::abs(n - 1));
}

bool ParseDuration(std::string_view text, int64_t& milliseconds) { return ParseQuantity(text, kDurationUnits, milliseconds); }
bool ParseBytes(std::string_view text, int64_t& bytes) { return ParseQuantity(text, kByteUnits, bytes); }

}  // namespace jobc::ir
