// An engine for tests of how its words and its silence are taken: it speaks as much of the API as the backend asks for, runs nothing,
// and misbehaves when told to. Containers "run" until End(). A thread for each connection; all is behind one lock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace jobc::testing {

class FakeEngine {
 public:
  /// Listens on this unix socket.
  explicit FakeEngine(std::string path);
  ~FakeEngine();
  FakeEngine(const FakeEngine&) = delete;
  FakeEngine& operator=(const FakeEngine&) = delete;

  std::string host() const { return "unix://" + path_; }
  /// Whether it takes connections and requests and answers none, and its streams stand still. What was to be said follows later.
  void Silence(bool on);
  /// Streams that are open now never say anything again, and are not closed: what lies between has forgotten them.
  void ForgetStreams();
  /// Does what requests for paths that end in this ask for, and never answers.
  void Swallow(const std::string& path_end);
  /// Has no image until a pull of one has ended. A pull says these lines, and ends after them if it `ends`.
  void Pulls(std::vector<std::string> lines, bool ends);
  /// Cuts all connections and takes no more; or is there again.
  void Gone(bool on);
  /// Every container that runs writes this and ends.
  void End(int code, const std::string& out = "");
  /// Who is attached gets this when a container ends, in place of what it wrote; its log has that.
  void AttachSays(std::string bytes);
  /// How many are there.
  size_t containers();
  /// How many requests had this in their first line, answered or not.
  size_t Asked(const std::string& part);

 private:
  struct Container {
    std::string name, labels, status = "created", out;
    int code = 0;
  };
  struct Event {
    int64_t time_ns;
    std::string line;
  };
  using Lock = std::unique_lock<std::mutex>;

  void Listen();  // with the lock
  void Accept(int listener);
  void Serve(int fd);
  /// False: the connection is over.
  bool Answer(int fd, Lock& lock, const std::string& method, const std::string& target, const std::string& body);
  bool StreamEvents(int fd, Lock& lock, const std::string& target);
  bool StreamPull(int fd, Lock& lock);
  bool StreamOutput(int fd, Lock& lock, const std::string& id, bool attached, bool follow);
  /// Waits until something changed; false: over.
  bool Wait(Lock& lock, int fd);
  void Tell(const std::string& id, const std::string& action, int code);
  std::string Describe(const std::string& id, const Container& one, bool list) const;

  const std::string path_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false, silent_ = false, gone_ = false;
  std::string swallowed_;
  std::optional<std::string> attach_says_;
  bool has_image_ = true, pull_ends_ = true;
  std::vector<std::string> pull_;
  int streams_ = 0, forgotten_ = 0;  ///< numbers of streams; those up to `forgotten_` are
  int next_ = 0, listener_ = -1;
  std::map<std::string, Container> containers_;
  std::vector<Event> events_;
  std::vector<std::string> asked_;
  std::map<int, bool> open_;  ///< connections; whether it was cut
  std::vector<std::thread> threads_;
};

}  // namespace jobc::testing
