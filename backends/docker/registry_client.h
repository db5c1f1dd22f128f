// Which content an image's name means now: the digest of its manifest, as its registry says it, with the credentials that `docker
// login` or `podman login` left. For `jobc lock`, which is the only one that asks: engines pull by themselves. Blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backends/docker/endpoint.h"
#include "ir/plan.h"
#include "support/result.h"

namespace jobc::docker {

/// An image's name taken apart as a registry is asked for it.
struct ImageName {
  std::string registry;    ///< `docker.io`, `ghcr.io`, `localhost:5000`
  std::string host;        ///< who answers for it: `registry-1.docker.io`
  std::string repository;  ///< `library/debian`
  std::string reference;   ///< the tag (`latest` where there is none), or the digest
};
/// `image` may begin with `docker://`. Error: it is no name of an image at a registry.
Result<ImageName> ParseImageName(std::string_view image);

/// The parameters of `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`; all empty: it is another scheme.
struct BearerChallenge {
  std::string realm, service, scope;
};
BearerChallenge ParseChallenge(std::string_view header);

enum class DigestFault : uint8_t { Name, Missing, Auth, Busy, Network, Refused };
struct DigestAnswer {
  std::string digest;   ///< `sha256:` and 64 hex digits; empty: `fault` and `problem` say why
  std::string from;     ///< empty: the registry; else the engine that had it
  DigestFault fault = DigestFault::Network;
  std::string problem;  ///< what happened and what to type
};
/// HEAD of the manifest, and where the registry says no digest, its content. A registry that is busy (429, with its Retry-After)
/// or broken is asked three times. If it cannot be reached, or there is none, an engine of this machine is asked whether it has pulled
/// that image. Ends within two minutes.
DigestAnswer FindDigest(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings);

}  // namespace jobc::docker
