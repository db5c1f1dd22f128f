// What many remote files are now, for the driver, which has no loop: plans name contents, and `run plan.json` compares them.
// Over transfer.h, on a loop of its own; waits. Keys that lie close together in a bucket are read from its lists, a thousand at a
// time, for one request each costs more than most of these files.
#pragma once

#include <string>
#include <vector>

#include "storage/transfer.h"

namespace jobc::storage {

struct IdentifyOptions {
  /// False: versions matter, which lists do not tell, so each object is asked for.
  bool may_list = true;
  size_t worth_listing = 100;  ///< objects of one bucket from which on its lists are read
  size_t worth_a_page = 50;    ///< objects that a page must have named, or the others are asked for one by one
  TransferOptions transfer;
};

/// As many results as addresses. An object of a bucket that keeps versions is named by its version too.
std::vector<Outcome<RemoteIdentity>> IdentifyAll(const std::vector<std::string>& uris, bool may_list = true);
std::vector<Outcome<RemoteIdentity>> IdentifyAll(const std::vector<std::string>& uris, IdentifyOptions options);

}  // namespace jobc::storage
