#include "storage/s3_sign.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "storage/uri.h"
#include "support/sha256.h"

namespace jobc::storage {
namespace {

std::string FromHex(std::string_view hex) {
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  out.reserve(hex.size() / 2);
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  }
  return out;
}

std::string ToHex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  }
  return out;
}

Pairs Sorted(Pairs pairs) {
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

/// Blanks at both ends go, several inside become one.
std::string Trimmed(std::string_view text) {
  std::string out;
  for (char c : text) {
    if ((c == ' ' || c == '\t') && (out.empty() || out.back() == ' ')) {
      continue;
    }
    out += c == '\t' ? ' ' : c;
  }
  while (!out.empty() && out.back() == ' ') {
    out.pop_back();
  }
  return out;
}

std::string SignedNames(const SignedRequest& request) {
  std::string out;
  for (const auto& [name, value] : Sorted(request.headers)) {
    out += (out.empty() ? "" : ";") + name;
  }
  return out;
}

}  // namespace

std::string HmacSha256(std::string_view key, std::string_view text) {
  constexpr size_t kBlock = 64;
  std::string block = key.size() > kBlock ? FromHex(Sha256Hex(key)) : std::string(key);
  block.resize(kBlock, '\0');
  std::string inner = block, outer = block;
  for (size_t i = 0; i < kBlock; ++i) {
    inner[i] = static_cast<char>(inner[i] ^ 0x36);
    outer[i] = static_cast<char>(outer[i] ^ 0x5c);
  }
  inner += text;
  return FromHex(Sha256Hex(outer + FromHex(Sha256Hex(inner))));
}

std::string AmzDate(int64_t unix_seconds) {
  const std::time_t time = static_cast<std::time_t>(unix_seconds);
  std::tm utc{};
  gmtime_r(&time, &utc);
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::string CanonicalQuery(const Pairs& query) {
  Pairs encoded;
  for (const auto& [name, value] : query) {
    encoded.emplace_back(UriEncode(name, false), UriEncode(value, false));
  }
  std::string out;
  for (const auto& [name, value] : Sorted(std::move(encoded))) {
    out += (out.empty() ? "" : "&") + name + "=" + value;
  }
  return out;
}

std::string CanonicalRequest(const SignedRequest& request) {
  std::string out = request.method + "\n" + request.path + "\n" + CanonicalQuery(request.query) + "\n";
  for (const auto& [name, value] : Sorted(request.headers)) {
    out += name + ":" + Trimmed(value) + "\n";
  }
  return out + "\n" + SignedNames(request) + "\n" + request.payload_sha256;
}

std::string Authorization(const SignedRequest& request, const Credentials& credentials, std::string_view region, std::string_view service, std::string_view amz_date) {
  const std::string_view day = amz_date.substr(0, 8);
  const std::string scope = fmt::format("{}/{}/{}/aws4_request", day, region, service);
  const std::string to_sign = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", amz_date, scope, Sha256Hex(CanonicalRequest(request)));
  std::string key = HmacSha256("AWS4" + credentials.secret_key, day);
  for (std::string_view part : {region, service, std::string_view("aws4_request")}) {
    key = HmacSha256(key, part);
  }
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}", credentials.access_key, scope, SignedNames(request), ToHex(HmacSha256(key, to_sign)));
}

}  // namespace jobc::storage
