// Whose S3 server, and as whom: endpoint, region and credentials, from the environment and the AWS command line's files.
// Never part of a plan. Pure: environment and files are given as functions.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "storage/s3_sign.h"
#include "support/result.h"

namespace jobc::storage {

struct S3Settings {
  std::string endpoint;        ///< `https://host[:port]` without a path; empty: AWS
  std::string endpoint_from;   ///< the variable or file that gave it, for messages
  std::string region = "us-east-1";
  Credentials credentials;
  std::string credentials_from;
};

struct Surroundings {
  std::function<std::optional<std::string>(const std::string& name)> variable;  ///< empty ones are nullopt
  std::function<std::optional<std::string>(const std::string& path)> file;
};

/// Of this process.
Surroundings ProcessSurroundings();

/// Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN), else the section AWS_PROFILE
/// (`default`) of AWS_SHARED_CREDENTIALS_FILE (`~/.aws/credentials`). Endpoint: JOBC_S3_ENDPOINT, AWS_ENDPOINT_URL_S3,
/// AWS_ENDPOINT_URL, then `endpoint_url` of AWS_CONFIG_FILE (`~/.aws/config`). Region: AWS_REGION, AWS_DEFAULT_REGION, then
/// `region` there. The error says what to set.
Result<S3Settings> ReadS3Settings(const Surroundings& surroundings);

}  // namespace jobc::storage
