// A way to a container engine's socket on another host: one process of `ssh` forwards a socket of this machine to it, for all
// connections of a run (`ssh -N -L LOCAL:REMOTE`). What answers at the local socket is then used as any engine. Owned by the
// Endpoint that it was opened for; ends with it, and with jobc however that ends.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::docker {

/// `ssh://[USER@]HOST[:PORT][/PATH]` in its parts.
struct SshTarget {
  std::string destination;    ///< as ssh takes it: HOST or USER@HOST; never empty, never an option
  std::string port;           ///< empty: what ssh's configuration says
  std::string identity;       ///< a private key's file; empty: what ssh's configuration and agent say
  std::string remote_socket;  ///< absolute, there

  friend bool operator==(const SshTarget&, const SshTarget&) = default;
};

/// The text behind `ssh://`. `usual_socket`: where the engine listens if it names no path; empty: it has to name one. The error is
/// the end of a sentence that begins with who named it.
Result<SshTarget> ParseSshTarget(const std::string& text, const std::string& usual_socket);

class SshForward {
 public:
  /// Starts `ssh` and waits until the local socket is there, at most 30 s. It asks nobody for a password. The error says why not,
  /// in ssh's own words where it has some, and what to type.
  static Result<std::shared_ptr<SshForward>> Open(const SshTarget& target);
  /// Ends ssh and removes the local socket.
  ~SshForward();
  SshForward(const SshForward&) = delete;
  SshForward& operator=(const SshForward&) = delete;

  /// The local socket. The same for the whole life of this object.
  std::string socket() const { return dir_ + "/s"; }
  /// Where ssh has ended, starts it again, and does not wait: until it is connected nobody answers at the socket.
  void Revive();
  /// The same, and waits as Open() does.
  Result<void> Renew();
  /// What ssh said last; empty: nothing.
  std::string LastWords() const;

 private:
  explicit SshForward(SshTarget target) : target_(std::move(target)) {}
  Result<void> MakeDir();
  Result<void> Start();
  Result<void> Await();
  bool Alive();
  void End();

  SshTarget target_;
  std::string dir_;         ///< only this user's; holds the socket, what ssh says, and a lock that says that it is in use
  process::UniqueFd lock_;
  pid_t pid_ = -1;          ///< of ssh; -1: it has ended
};

}  // namespace jobc::docker
