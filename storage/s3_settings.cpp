#include "storage/s3_settings.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

namespace jobc::storage {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

/// The entries of one section of an INI file; indented lines are parts of nested settings and left out.
std::map<std::string, std::string> Section(std::string_view text, std::string_view wanted, bool& found) {
  std::map<std::string, std::string> out;
  bool inside = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view raw = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view line = Trim(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';') {
      continue;
    }
    if (line.front() == '[') {
      std::string_view name = Trim(line.substr(1, line.find(']') == std::string_view::npos ? line.size() - 1 : line.find(']') - 1));
      if (name.starts_with("profile ")) {
        name = Trim(name.substr(8));
      }
      inside = name == wanted;
      found = found || inside;
      continue;
    }
    const size_t equal = line.find('=');
    if (inside && equal != std::string_view::npos && raw.front() != ' ' && raw.front() != '\t') {
      out[std::string(Trim(line.substr(0, equal)))] = std::string(Trim(line.substr(equal + 1)));
    }
  }
  return out;
}

}  // namespace

Surroundings ProcessSurroundings() {
  Surroundings out;
  out.variable = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
  };
  out.file = [](const std::string& path) -> std::optional<std::string> {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
      return std::nullopt;
    }
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  };
  return out;
}

Result<S3Settings> ReadS3Settings(const Surroundings& surroundings) {
  S3Settings out;
  const auto variable = [&](const char* name) { return surroundings.variable(name); };
  const std::string home = variable("HOME").value_or("");
  const std::string profile = variable("AWS_PROFILE").value_or("default");
  const std::string config_path = variable("AWS_CONFIG_FILE").value_or(home + "/.aws/config");
  bool config_has_profile = false;
  std::map<std::string, std::string> config;
  if (auto text = surroundings.file(config_path)) {
    config = Section(*text, profile, config_has_profile);
  }

  for (const char* name : {"JOBC_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}) {
    if (out.endpoint.empty()) {
      if (auto value = variable(name)) {
        out.endpoint = *value;
        out.endpoint_from = name;
      }
    }
  }
  if (out.endpoint.empty() && config.count("endpoint_url") != 0) {
    out.endpoint = config["endpoint_url"];
    out.endpoint_from = config_path;
  }
  while (!out.endpoint.empty() && out.endpoint.back() == '/') {
    out.endpoint.pop_back();
  }
  if (!out.endpoint.empty()) {
    const size_t scheme = out.endpoint.starts_with("https://") ? 8 : out.endpoint.starts_with("http://") ? 7 : 0;
    if (scheme == 0 || out.endpoint.size() == scheme || out.endpoint.find_first_of("/?#@ ", scheme) != std::string::npos) {
      return Error{fmt::format("the S3 endpoint `{}` ({}) is no address of a server; it looks like `https://s3.example.com:9000`", out.endpoint, out.endpoint_from)};
    }
  }

  if (auto region = variable("AWS_REGION")) {
    out.region = *region;
  } else if (auto fallback = variable("AWS_DEFAULT_REGION")) {
    out.region = *fallback;
  } else if (config.count("region") != 0) {
    out.region = config["region"];
  }

  const auto key = variable("AWS_ACCESS_KEY_ID");
  const auto secret = variable("AWS_SECRET_ACCESS_KEY");
  if (key && secret) {
    out.credentials = {*key, *secret, variable("AWS_SESSION_TOKEN").value_or("")};
    out.credentials_from = "AWS_ACCESS_KEY_ID";
    return out;
  }
  if (key || secret) {
    return Error{fmt::format("{} is set but {} is not: S3 needs both", key ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY", key ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID")};
  }
  const std::string path = variable("AWS_SHARED_CREDENTIALS_FILE").value_or(home + "/.aws/credentials");
  const auto text = surroundings.file(path);
  if (!text) {
    return Error{fmt::format("there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to `{}`", path)};
  }
  bool found = false;
  std::map<std::string, std::string> section = Section(*text, profile, found);
  if (!found) {
    return Error{fmt::format("`{}` has no profile `{}`: add a section `[{}]` there, or set AWS_PROFILE to another one", path, profile, profile)};
  }
  if (section["aws_access_key_id"].empty() || section["aws_secret_access_key"].empty()) {
    return Error{fmt::format("the profile `{}` of `{}` needs `aws_access_key_id = …` and `aws_secret_access_key = …`", profile, path)};
  }
  out.credentials = {section["aws_access_key_id"], section["aws_secret_access_key"], section["aws_session_token"]};
  out.credentials_from = fmt::format("profile `{}` of {}", profile, path);
  return out;
}

}  // namespace jobc::storage
