// Which ready instance may start next: limited resources (places, cpus, memory, pools), what each instance claims of
// them, and the order of those that wait. Part of the pure core, owned by the Scheduler.
//
// Order is priority, then plan order. One that does not fit lets later ones pass, but after kMaxPasses its claims are
// reserved. Instances with equal claims of one job form a class: where its first does not fit none does, so a round
// looks at classes, not at instances.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/attempt.h"

namespace jobc {

class Admission {
 public:
  /// (resource, amount > 0), sorted by resource, each at most once.
  using Claims = std::vector<std::pair<uint32_t, int64_t>>;

  Admission(uint32_t max_passes, uint32_t max_lookahead) : max_passes_(max_passes), max_lookahead_(max_lookahead) {}

  uint32_t AddResource(int64_t total);
  int64_t total(uint32_t resource) const { return totals_[resource]; }
  int64_t used(uint32_t resource) const { return totals_[resource] - free_[resource]; }
  size_t resources() const { return totals_.size(); }

  /// The class of these claims; made on first use.
  uint32_t Intern(uint32_t job, int priority, Claims claims);
  const Claims& claims(uint32_t claim_class) const { return classes_[claim_class].claims; }
  int priority(uint32_t claim_class) const { return classes_[claim_class].priority; }

  bool HasWaiting(uint32_t claim_class) const { return !classes_[claim_class].waiting.empty(); }
  /// Of those that wait in the class and are still ready: how many, and the one whose turn is next. Looks at all of them.
  std::pair<uint64_t, InstanceRef> Ready(uint32_t claim_class, const std::function<bool(InstanceRef)>& is_ready) const;
  /// The first claim of the class of which too little is free; nullopt: there is enough, but it is reserved for others.
  std::optional<std::pair<uint32_t, int64_t>> Lacking(uint32_t claim_class) const;

  void Push(uint32_t claim_class, uint32_t ordinal);
  void Take(uint32_t claim_class);
  void Release(uint32_t claim_class);

  /// One round, in order. `is_ready` tells whether a waiting one still is (others are dropped); `start` is called for
  /// each that fits, after its claims were taken, and returns false where it did not start after all.
  void Admit(const std::function<bool(InstanceRef)>& is_ready,
             const std::function<bool(InstanceRef, uint32_t claim_class)>& start);

  /// The first in order that is ready, whether it fits or not, with its class.
  std::optional<std::pair<InstanceRef, uint32_t>> First(const std::function<bool(InstanceRef)>& is_ready);
  /// Takes the first of a class out of those that wait.
  void Pop(uint32_t claim_class);

  /// Up to `limit` of those that will likely start next, so that their intents can be journaled together. A guess: what
  /// fits decides too, and those that are no longer ready may be among them.
  std::vector<InstanceRef> Peek(size_t limit) const;

  /// All that wait, for tests of the scheduler's invariants.
  std::vector<InstanceRef> Waiting() const;

 private:
  struct Entry {
    uint32_t ordinal;
    uint32_t passes_before;  ///< of its class when it came
    bool operator>(const Entry& other) const { return ordinal > other.ordinal; }
  };
  struct Class {
    uint32_t job = 0;
    int priority = 0;
    Claims claims;
    std::vector<Entry> waiting;  ///< min-heap by ordinal
    uint32_t passes = 0;         ///< how often its first was passed
  };
  /// (-priority, job, first ordinal, class)
  using Key = std::tuple<int, uint32_t, uint32_t, uint32_t>;

  Key KeyOf(uint32_t claim_class) const;
  bool Fits(const Class& c) const;
  /// Drops those that are no longer ready from the front.
  void Clean(Class& c, const std::function<bool(InstanceRef)>& is_ready);
  void PopFront(Class& c);

  uint32_t max_passes_, max_lookahead_;
  std::vector<int64_t> totals_, free_, reserved_;
  std::vector<Class> classes_;
  std::map<std::tuple<uint32_t, int, Claims>, uint32_t> interned_;
  std::set<Key> order_;  ///< classes with someone waiting
};

}  // namespace jobc
