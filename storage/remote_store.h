// Remote files for the engine: what runs want is brought into a content-addressed store of the state directory, once however
// many attempts and runs want it, and what they publish is put where it belongs. Implements runtime/remote_files.h over
// transfer.h; made by the driver's factory, owned by the engine.
//
//   store/content/ab/abcd…   a file by its sha256, read-only
//   store/known/KEY          which content an address had: JSON; KEY is the hash of address and identity, or of address and run
//                            where the server gives the content no name
//   store/tree/KEY-RUN-N/    a directory: its files are other names of contents
//   store/part/KEY.RUN       what is being fetched
//   store/part/KEY.RUN.had   which bytes of it are there (fetch_record.h); what a run that is over left is taken over by the next
//   store/upload/KEY.RUN     an upload in parts that is under way; KEY is the hash of the address
#pragma once

#include "runtime/remote_files.h"
#include "storage/transfer.h"

namespace jobc::storage {

/// The error says why remote files cannot be read here.
Result<std::unique_ptr<RemoteFiles>> MakeRemoteStore(const RemoteFilesHost& host);
/// For tests.
Result<std::unique_ptr<RemoteFiles>> MakeRemoteStore(const RemoteFilesHost& host, TransferOptions options);

/// Remote files of a plan whose server names another content than the plan does, or none; empty if all are as they were.
/// Waits; for the driver. What cannot be asked is a problem too.
std::vector<std::string> ChangedRemoteFiles(const ir::Plan& plan);

/// As RemoveStaged() (runtime/staged.h) for bases in buckets, many at a time. Waits; for the driver.
struct StagedRemoval {
  std::string base, execution_id;
  bool there = false;      ///< something was there
  uint64_t bytes = 0;
  std::string problem;     ///< it stays, because of this; empty: it is gone
};
void RemoveStagedObjects(std::vector<StagedRemoval>& all, bool dry);

}  // namespace jobc::storage
