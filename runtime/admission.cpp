#include "runtime/admission.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "support/check.h"

namespace jobc {

uint32_t Admission::AddResource(int64_t total) {
  totals_.push_back(total);
  free_.push_back(total);
  reserved_.push_back(0);
  return static_cast<uint32_t>(totals_.size() - 1);
}

uint32_t Admission::Intern(uint32_t job, int priority, Claims claims) {
  auto [it, added] = interned_.try_emplace({job, priority, std::move(claims)}, static_cast<uint32_t>(classes_.size()));
  if (added) {
    Class c;
    c.job = job;
    c.priority = priority;
    c.claims = std::get<2>(it->first);
    classes_.push_back(std::move(c));
  }
  return it->second;
}

Admission::Key Admission::KeyOf(uint32_t claim_class) const {
  const Class& c = classes_[claim_class];
  return {-c.priority, c.job, c.waiting.front().ordinal, claim_class};
}

void Admission::Push(uint32_t claim_class, uint32_t ordinal) {
  Class& c = classes_[claim_class];
  const bool first = c.waiting.empty() || ordinal < c.waiting.front().ordinal;
  if (first && !c.waiting.empty()) order_.erase(KeyOf(claim_class));
  c.waiting.push_back({ordinal, c.passes});
  std::push_heap(c.waiting.begin(), c.waiting.end(), std::greater<>());
  if (first) order_.insert(KeyOf(claim_class));
}

std::pair<uint64_t, InstanceRef> Admission::Ready(uint32_t claim_class, const std::function<bool(InstanceRef)>& is_ready) const {
  const Class& c = classes_[claim_class];
  std::pair<uint64_t, InstanceRef> out{0, {c.job, kWholeJob}};
  for (const Entry& entry : c.waiting) {
    if (!is_ready({c.job, entry.ordinal})) continue;
    ++out.first;
    out.second.ordinal = std::min(out.second.ordinal, entry.ordinal);
  }
  return out;
}

std::optional<std::pair<uint32_t, int64_t>> Admission::Lacking(uint32_t claim_class) const {
  for (auto [resource, amount] : classes_[claim_class].claims) {
    if (amount > free_[resource]) return std::pair(resource, amount);
  }
  return std::nullopt;
}

void Admission::Take(uint32_t claim_class) {
  for (auto [resource, amount] : classes_[claim_class].claims) free_[resource] -= amount;
}

void Admission::Release(uint32_t claim_class) {
  for (auto [resource, amount] : classes_[claim_class].claims) {
    free_[resource] += amount;
    JOBC_CHECK(free_[resource] <= totals_[resource]);
  }
}

bool Admission::Fits(const Class& c) const {
  for (auto [resource, amount] : c.claims) {
    if (amount > free_[resource] - reserved_[resource]) return false;
  }
  return true;
}

void Admission::PopFront(Class& c) {
  std::pop_heap(c.waiting.begin(), c.waiting.end(), std::greater<>());
  c.waiting.pop_back();
}

void Admission::Clean(Class& c, const std::function<bool(InstanceRef)>& is_ready) {
  while (!c.waiting.empty() && !is_ready({c.job, c.waiting.front().ordinal})) PopFront(c);
}

void Admission::Admit(const std::function<bool(InstanceRef)>& is_ready,
                      const std::function<bool(InstanceRef, uint32_t)>& start) {
  if (order_.empty()) return;
  std::fill(reserved_.begin(), reserved_.end(), 0);
  std::vector<uint32_t> passed;  // classes whose first does not fit and is not reserved for yet
  uint32_t looked = 0;
  auto reserve = [&](const Class& c) {
    for (auto [resource, amount] : c.claims) reserved_[resource] += amount;
  };
  for (auto it = order_.begin(); it != order_.end() && looked < max_lookahead_;) {
    const uint32_t id = std::get<3>(*it);
    Class& c = classes_[id];
    if (!is_ready({c.job, std::get<2>(*it)})) {
      order_.erase(it);
      Clean(c, is_ready);
      if (!c.waiting.empty()) order_.insert(KeyOf(id));
      it = order_.begin();  // its place may be anywhere now; what did not fit before is skipped again below
      passed.clear();
      looked = 0;
      std::fill(reserved_.begin(), reserved_.end(), 0);
      continue;
    }
    if (!Fits(c)) {
      ++looked;
      if (c.passes - c.waiting.front().passes_before >= max_passes_) {
        reserve(c);
      } else {
        passed.push_back(id);
      }
      ++it;
      continue;
    }
    const InstanceRef instance{c.job, c.waiting.front().ordinal};
    it = order_.erase(it);
    PopFront(c);
    Clean(c, is_ready);
    if (!c.waiting.empty()) {
      const Key next = KeyOf(id);
      if (it == order_.end() || next < *it) {
        it = order_.insert(it, next);
      } else {
        order_.insert(next);
      }
    }
    Take(id);
    if (!start(instance, id)) {
      Release(id);
      continue;
    }
    for (size_t i = 0; i < passed.size();) {
      Class& p = classes_[passed[i]];
      ++p.passes;
      if (p.passes - p.waiting.front().passes_before >= max_passes_) {
        reserve(p);
        passed.erase(passed.begin() + static_cast<ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  }
}

std::optional<std::pair<InstanceRef, uint32_t>> Admission::First(const std::function<bool(InstanceRef)>& is_ready) {
  while (!order_.empty()) {
    const auto it = order_.begin();
    const uint32_t id = std::get<3>(*it);
    Class& c = classes_[id];
    const InstanceRef first{c.job, std::get<2>(*it)};
    if (is_ready(first)) return std::pair(first, id);
    order_.erase(it);
    Clean(c, is_ready);
    if (!c.waiting.empty()) order_.insert(KeyOf(id));
  }
  return std::nullopt;
}

void Admission::Pop(uint32_t claim_class) {
  Class& c = classes_[claim_class];
  order_.erase(KeyOf(claim_class));
  PopFront(c);
  if (!c.waiting.empty()) order_.insert(KeyOf(claim_class));
}

std::vector<InstanceRef> Admission::Peek(size_t limit) const {
  std::vector<InstanceRef> out;
  for (const Key& key : order_) {
    // In order without taking the heap apart: the next smallest is a child of one that was taken.
    const Class& c = classes_[std::get<3>(key)];
    auto later = [&c](size_t x, size_t y) { return c.waiting[x] > c.waiting[y]; };
    std::priority_queue<size_t, std::vector<size_t>, decltype(later)> next(later);
    if (!c.waiting.empty()) next.push(0);
    while (!next.empty() && out.size() < limit) {
      const size_t at = next.top();
      next.pop();
      out.push_back({c.job, c.waiting[at].ordinal});
      for (size_t child : {2 * at + 1, 2 * at + 2}) {
        if (child < c.waiting.size()) next.push(child);
      }
    }
    if (out.size() >= limit) break;
  }
  return out;
}

std::vector<InstanceRef> Admission::Waiting() const {
  std::vector<InstanceRef> out;
  for (const Class& c : classes_) {
    for (const Entry& entry : c.waiting) out.push_back({c.job, entry.ordinal});
  }
  return out;
}

}  // namespace jobc
