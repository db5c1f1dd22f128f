// One file from the network, over https only. libcurl is opened on first use: with its 38 libraries it would cost every
// other command more than its whole run time.
#pragma once

#include <cstdint>
#include <string>

#include "support/result.h"

namespace jobc {

/// The body of a GET with status 200. Redirects are followed to https addresses only; certificates are checked against those
/// of the system, or of CURL_CA_BUNDLE or SSL_CERT_FILE. The error names what happened, without the address.
/// `most`: bytes; more is an error. Ends within about a minute.
Result<std::string> FetchHttps(const std::string& address, uint64_t most);

}  // namespace jobc
