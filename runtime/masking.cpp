#include "runtime/masking.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/json.h"

namespace jobc {
namespace {

/// The base64 forms of `text` at any of the three offsets it can have in a longer text, without the characters that its
/// neighbours influence: what is always there wherever the secret was encoded.
std::vector<std::string> Base64Forms(std::string_view text) {
  static constexpr char kStandard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static constexpr char kUrl[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::vector<std::string> forms;
  for (const char* alphabet : {kStandard, kUrl}) {
    for (size_t offset = 0; offset < 3; ++offset) {
      std::string padded(offset, '\0');
      padded.append(text);
      std::string encoded;
      size_t whole = padded.size() / 3 * 3;
      for (size_t i = 0; i < whole; i += 3) {
        uint32_t bits = static_cast<uint32_t>(static_cast<unsigned char>(padded[i])) << 16 |
                        static_cast<uint32_t>(static_cast<unsigned char>(padded[i + 1])) << 8 |
                        static_cast<unsigned char>(padded[i + 2]);
        for (int shift = 18; shift >= 0; shift -= 6) {
          encoded += alphabet[bits >> shift & 63];
        }
      }
      size_t rest = padded.size() - whole;
      if (rest > 0) {
        uint32_t bits = static_cast<uint32_t>(static_cast<unsigned char>(padded[whole])) << 16;
        if (rest == 2) {
          bits |= static_cast<uint32_t>(static_cast<unsigned char>(padded[whole + 1])) << 8;
        }
        // Only characters whose six bits all come from the secret.
        for (size_t k = 0; k < rest; ++k) {
          encoded += alphabet[bits >> (18 - 6 * k) & 63];
        }
      }
      // The first characters hold bits of what stood before the secret.
      encoded.erase(0, offset == 0 ? 0 : offset + 1);
      if (encoded.size() >= kMinMasked) {
        forms.push_back(std::move(encoded));
      }
    }
  }
  return forms;
}

std::string UrlEscaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    unsigned char byte = static_cast<unsigned char>(c);
    bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
                 byte == '-' || byte == '_' || byte == '.' || byte == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return out;
}

std::string JsonEscaped(std::string_view text) {
  std::string quoted = ir::JsonQuote(text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

void Masker::Add(const std::vector<std::string>& secrets) {
  auto add = [&](std::string_view text) {
    if (text.size() < kMinMasked) {
      return;
    }
    patterns_.emplace_back(text);
    patterns_.push_back(UrlEscaped(text));
    patterns_.push_back(JsonEscaped(text));
    for (std::string& form : Base64Forms(text)) {
      patterns_.push_back(std::move(form));
    }
  };
  for (const std::string& secret : secrets) {
    add(secret);
    for (size_t begin = 0; begin < secret.size();) {
      size_t end = std::min(secret.find('\n', begin), secret.size());
      std::string_view line = std::string_view(secret).substr(begin, end - begin);
      if (!line.empty() && line.back() == '\r') {
        line.remove_suffix(1);
      }
      add(line);
      begin = end + 1;
    }
  }
  std::sort(patterns_.begin(), patterns_.end(), [](const std::string& x, const std::string& y) {
    return x.size() != y.size() ? x.size() > y.size() : x < y;
  });
  patterns_.erase(std::unique(patterns_.begin(), patterns_.end()), patterns_.end());
  by_first_.clear();
  if (!patterns_.empty()) {
    by_first_.resize(256);
    for (uint32_t i = 0; i < patterns_.size(); ++i) {
      by_first_[static_cast<unsigned char>(patterns_[i][0])].push_back(i);
    }
  }
}

size_t Masker::MatchAt(std::string_view text, size_t at) const {
  for (uint32_t i : by_first_[static_cast<unsigned char>(text[at])]) {
    if (text.substr(at, patterns_[i].size()) == patterns_[i]) {
      return patterns_[i].size();
    }
  }
  return 0;
}

bool Masker::Contains(std::string_view text) const {
  if (patterns_.empty()) {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (MatchAt(text, i) != 0) {
      return true;
    }
  }
  return false;
}

std::vector<std::string_view> Masker::PartsBetween(std::string_view text) const {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (size_t i = 0; !patterns_.empty() && i < text.size();) {
    const size_t length = MatchAt(text, i);
    if (length != 0) {
      parts.push_back(text.substr(begin, i - begin));
      begin = i + length;
    }
    i += std::max<size_t>(length, 1);
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string Masker::Mask(std::string_view text) const {
  if (patterns_.empty()) {
    return std::string(text);
  }
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t length = MatchAt(text, i);
    if (length != 0) {
      out += kMask;
      i += length;
    } else {
      out += text[i++];
    }
  }
  return out;
}

std::vector<std::string> FormerSecrets(const Masker& masker, std::string_view now, std::string_view then) {
  if (now == then) return {};
  const std::vector<std::string_view> parts = masker.PartsBetween(now);
  std::vector<std::string> out;
  std::string_view rest = then;
  bool fits = parts.size() > 1 && rest.starts_with(parts.front());
  if (fits) rest.remove_prefix(parts.front().size());
  for (size_t i = 1; fits && i < parts.size(); ++i) {
    // The last part stands at the end; the others where they come first.
    const bool last = i + 1 == parts.size();
    fits = !last || rest.ends_with(parts[i]);
    const size_t end = last ? rest.size() - parts[i].size() : rest.find(parts[i]);
    fits = fits && end != std::string_view::npos;
    if (!fits) break;
    const std::string_view value = rest.substr(0, end);
    if (!value.empty() && !masker.Contains(value)) out.emplace_back(value);
    rest.remove_prefix(end + parts[i].size());
  }
  if (!fits) return {std::string(then)};
  return out;
}

}  // namespace jobc
