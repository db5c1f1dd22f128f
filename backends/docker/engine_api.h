// The Engine API as values: bodies of requests from an AttemptLaunch, answers and streams into plain structures, errors into
// kinds. Docker's engine and podman's service speak it with small differences, which are data here. Pure: no I/O; the API is
// described at https://docs.docker.com/engine/api/v1.41/.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/plan.h"
#include "runtime/backend.h"
#include "support/result.h"

namespace jobc::docker {

inline constexpr std::string_view kRunLabel = "jobc.run";
inline constexpr std::string_view kAttemptLabel = "jobc.attempt";    ///< execution id
inline constexpr std::string_view kInstanceLabel = "jobc.instance";  ///< address
inline constexpr std::string_view kStateLabel = "jobc.state";        ///< StateLabel()
inline constexpr std::string_view kCopiedLabel = "jobc.copied";      ///< there: files are copied in and out (ContainerPlan::copied)
inline constexpr std::string_view kSecretsLabel = "jobc.secrets";    ///< directory of secret files on this machine, if any

/// Names a state directory without telling where it is.
std::string StateLabel(const std::string& state_dir);
/// Of a container: `jobc-<execution id>`.
std::string ContainerName(std::string_view execution_id);

/// How the two differ.
struct Flavour {
  ir::BackendKind kind = ir::BackendKind::Docker;
  std::string log_driver;         ///< its logs can be read back, and nothing of them is thrown away
  bool log_sizes = false;         ///< the driver has a size limit that must be lifted
  bool slow_events = false;       ///< events lag: once the output has ended, the container is asked
  bool says_oom = true;           ///< State.OOMKilled can be trusted when it is false
  bool has_gpus = true;           ///< DeviceRequests are known
  bool looks_at_sources = false;  ///< what is to be mounted has to be there when a container is created, not only when it starts
  /// With what a frame of standard error begins that is the engine's own: it could not read the program's output to its end, and says so in
  /// its place (podman, github.com/containers/podman/issues/11446). Its log has all of it. Empty: there is no such thing.
  std::string_view lost_stream = {};
};
const Flavour& FlavourOf(ir::BackendKind kind);

/// What the engine says of itself.
struct EngineFacts {
  std::string version;
  std::string api;       ///< prefix of paths: `/v1.41`
  bool rootless = false; ///< root in a container is the user of the engine
  bool remapped = false; ///< users in containers are others outside (userns-remap)
  bool keeps_ids = false;  ///< rootless, and any user in a container can be made the user of the engine outside (podman)
  bool limits_memory = true, limits_cpu = true, limits_pids = true;
  std::string no_limits, enable_limits;  ///< why some are not enforced, and what to do about it
};
/// The answers to GET /version, GET /info, and where the engine is podman to GET LibpodInfoPath(): what podman 4.3 says of its limits
/// in the second is what the kernel could do, not what it will.
Result<EngineFacts> ParseFacts(std::string_view version, std::string_view info, std::string_view libpod = "");
/// Empty: it is not podman.
std::string LibpodInfoPath(std::string_view version);

struct ImageInfo {
  std::string id;      ///< `sha256:…`
  std::string digest;  ///< `name@sha256:…` of the registry, else the id
  std::string user;    ///< as the image sets it; empty: root
  std::vector<std::string> entrypoint, cmd;
};
/// `name`: as the job has it.
Result<ImageInfo> ParseImage(std::string_view body, std::string_view name);

/// What a container is made from, beside the launch.
struct ContainerPlan {
  const AttemptLaunch* launch = nullptr;
  const ImageInfo* image = nullptr;
  std::string run_id, state;
  std::vector<std::string> command;  ///< the whole of it, image's ENTRYPOINT included; empty: as the image has it, with the launch's argv
  std::vector<Mount> mounts;         ///< beside those of the launch: the init program
  std::string user;                  ///< empty: the image's
  std::vector<std::string> groups;   ///< supplementary
  std::vector<std::string> gpus;     ///< ids; empty: any
  std::string userns;                ///< of the users: `host` is without remapping; empty: as the engine has it
  bool no_memory = false, no_cpu = false, no_pids = false;  ///< the engine cannot enforce them: they are not asked for
  bool copied = false;               ///< the engine does not see this machine's files: a volume of its own is at kPlacesRoot, and nothing of the launch is mounted
};
/// Below it are all places of an attempt.
inline constexpr std::string_view kPlacesRoot = "/jobc";
/// The body of POST /containers/create. Error: what cannot be said in it, as text that is not UTF-8.
Result<std::string> CreateBody(const ContainerPlan& plan, const Flavour& flavour);

/// The body of POST /volumes/create, labelled with the run that wanted it. No run removes it.
std::string VolumeBody(std::string_view name, std::string_view run_id, std::string_view state);

/// A path of the API with its query; values are escaped.
std::string ApiPath(std::string path, const std::vector<std::pair<std::string, std::string>>& query);
/// `{"label":["jobc.run=ID"]}`, for lists and events.
std::string RunFilter(std::string_view run_id, bool events);
/// The same for all runs of a state directory; `label` as StateLabel() gives it.
std::string StateFilter(std::string_view label, bool events);
/// fromImage and tag of a pull: a name without a tag means `latest`, never all tags.
std::vector<std::pair<std::string, std::string>> PullQuery(const std::string& image);

/// Of a container.
struct ContainerState {
  std::string id;
  std::string status;        ///< `created`, `running`, `exited`, `dead` …
  std::string run, attempt;  ///< its labels
  bool copied = false;       ///< one of them
  std::vector<std::string> env;  ///< NAME=value; not of a list
  int exit_code = 0;
  bool oom = false;
  std::string error;
  int64_t started_ms = 0, finished_ms = 0;  ///< wall clock of the engine; 0: not yet
  bool Ended() const { return status == "exited" || status == "dead" || status == "stopped" || status == "removing"; }
  bool Lives() const { return status == "running" || status == "paused" || status == "restarting"; }
};
std::optional<ContainerState> ParseContainer(std::string_view body);              ///< GET /containers/ID/json
std::optional<std::vector<ContainerState>> ParseContainers(std::string_view body); ///< GET /containers/json: id, status and labels
struct Created {
  std::string id;
  std::vector<std::string> warnings;
};
std::optional<Created> ParseCreated(std::string_view body);

/// What `message` says is not there on the engine's machine as the source of a bind: a path; empty: it says nothing of that.
std::string MissingSource(std::string_view message);

/// `message` of an answer that is an error; the body itself where it is no JSON.
std::string ErrorMessage(std::string_view body);
/// The one of two containers of a name: 409 of docker, 500 of podman.
bool IsNameTaken(int status, std::string_view message);

/// Layers: of a pull, once the registry has told what the image consists of.
enum class Step : uint8_t { Image, Pull, Layers, Create, Start };
/// What a failed step means for the attempt. `status` 0: only a message, of a stream.
Verdict FailureOf(Step step, int status, const std::string& message, const AttemptLaunch& launch, const Flavour& flavour);
/// The connection failed before there was an answer.
Verdict UnreachableVerdict(const Flavour& flavour, const std::string& endpoint, const std::string& message);

/// An event of a container.
struct ContainerEvent {
  std::string action;     ///< `start`, `die`, `oom`, `kill`, `destroy` …
  std::string id;
  std::string attempt;    ///< the label
  int exit_code = -1;     ///< die
  int signal = 0;         ///< kill
  int64_t time_ns = 0;    ///< wall clock of the engine
};
std::optional<ContainerEvent> ParseEvent(std::string_view line);

/// Bytes into lines, however they are cut.
class Lines {
 public:
  /// False: a line is longer than `most`, which no event is.
  bool Feed(std::string_view bytes, const std::function<void(std::string_view)>& each, size_t most = 4 << 20);
  /// What stands after the last line break.
  const std::string& rest() const { return rest_; }

 private:
  std::string rest_;
};

/// The frames of a log: 8 bytes (stream, three zeros, size), then the bytes; however they are cut. Holds at most a header.
class LogFrames {
 public:
  /// False: that is no such stream, and nothing more comes.
  bool Feed(std::string_view bytes, const std::function<void(LogStream, std::string_view)>& each);
  /// Between two frames.
  bool AtBoundary() const { return have_ == 0 && left_ == 0; }
  /// In `each`: whether these are the first bytes of their frame.
  bool begins() const { return begins_; }

 private:
  unsigned char header_[8] = {};
  size_t have_ = 0;      ///< bytes of the header
  uint64_t left_ = 0;    ///< bytes of the frame
  LogStream stream_ = LogStream::Stdout;
  bool broken_ = false;
  bool begins_ = false;
};

/// How far a pull is, from its stream of JSON.
class PullProgress {
 public:
  void Feed(std::string_view line);
  /// Empty: none.
  const std::string& error() const { return error_; }
  /// `34 MiB of 120 MiB`; empty as long as nothing is known.
  std::string Said() const;
  bool HasBegun() const;
  /// Everything that it has spoken of has come; what is left is done by the engine alone.
  bool IsHere() const;

 private:
  struct Layer {
    std::string id;
    int64_t done = 0, total = 0;
    bool here = false;
  };
  std::vector<Layer> layers_;
  std::string error_;
};

/// uid and gid of `user` (`name`, `name:group`, `1000`, `1000:100`) by an image's /etc/passwd. Nothing: the name is not there.
struct UserIds {
  int64_t uid = 0, gid = 0;
};
std::optional<UserIds> IdsOf(std::string_view user, std::string_view passwd);
/// Whether `user` is a number, or empty: then no passwd is needed.
bool IsNumericUser(std::string_view user);
/// The content of the first file of a tar archive, as GET /containers/ID/archive gives it.
std::string FirstFileOfTar(std::string_view archive);

}  // namespace jobc::docker
