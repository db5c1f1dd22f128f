#include "compiler/format/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace jobc {
namespace {

/// More differences than this are not sorted out: what lies between is shown as replaced.
constexpr int kMaxEdits = 2000;
constexpr size_t kContext = 3;

/// Each with its line break; the last one may have none.
std::vector<std::string_view> LinesOf(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const size_t size = newline == std::string_view::npos ? text.size() : newline + 1;
    lines.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return lines;
}

/// A line of the result: kept (' '), only before ('-') or only after ('+').
struct Step {
  char sign;
  std::string_view line;
};

/// The shortest way from `a` to `b` (Myers, "An O(ND) difference algorithm and its variations", 1986).
void Compare(const std::vector<std::string_view>& a, size_t a_begin, size_t a_end, const std::vector<std::string_view>& b,
             size_t b_begin, size_t b_end, std::vector<Step>& steps) {
  const int n = static_cast<int>(a_end - a_begin);
  const int m = static_cast<int>(b_end - b_begin);
  // The furthest x on each diagonal k = x - y after d edits, at index k + d; only every second k is used.
  std::vector<std::vector<int>> trace;
  // Whether the best way to diagonal k adds a line of `b` (comes from k + 1), and where on its diagonal it starts.
  const auto step = [&](int d, int k) {
    const auto last = [&](int diagonal) { return trace[static_cast<size_t>(d - 1)][static_cast<size_t>(diagonal + d - 1)]; };
    const bool adds = k == -d || (k != d && last(k - 1) < last(k + 1));
    return std::pair<bool, int>(adds, adds ? last(k + 1) : last(k - 1) + 1);
  };
  int found = -1;
  for (int d = 0; d <= std::min(n + m, kMaxEdits) && found < 0; ++d) {
    std::vector<int> reach(static_cast<size_t>(2 * d + 1), 0);
    for (int k = -d; k <= d && found < 0; k += 2) {
      int x = d == 0 ? 0 : step(d, k).second;
      while (x < n && x - k < m && a[a_begin + static_cast<size_t>(x)] == b[b_begin + static_cast<size_t>(x - k)]) ++x;
      reach[static_cast<size_t>(k + d)] = x;
      if (k == n - m && x >= n) found = d;
    }
    trace.push_back(std::move(reach));
  }
  if (found < 0) {
    for (size_t i = a_begin; i < a_end; ++i) steps.push_back({'-', a[i]});
    for (size_t i = b_begin; i < b_end; ++i) steps.push_back({'+', b[i]});
    return;
  }
  std::vector<Step> back;
  int x = n, y = m;
  for (int d = found; d > 0; --d) {
    const auto [added, start_x] = step(d, x - y);
    while (x > start_x) {
      --x, --y;
      back.push_back({' ', a[a_begin + static_cast<size_t>(x)]});
    }
    if (added) {
      --y;
      back.push_back({'+', b[b_begin + static_cast<size_t>(y)]});
    } else {
      --x;
      back.push_back({'-', a[a_begin + static_cast<size_t>(x)]});
    }
  }
  while (x > 0) {
    --x;
    back.push_back({' ', a[a_begin + static_cast<size_t>(x)]});
  }
  steps.insert(steps.end(), back.rbegin(), back.rend());
}

}  // namespace

std::string UnifiedDiff(std::string_view before, std::string_view after, std::string_view before_name, std::string_view after_name) {
  if (before == after) return {};
  const std::vector<std::string_view> a = LinesOf(before), b = LinesOf(after);
  size_t same = 0;
  while (same < a.size() && same < b.size() && a[same] == b[same]) ++same;
  size_t tail = 0;
  while (tail < a.size() - same && tail < b.size() - same && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  std::vector<Step> steps;
  for (size_t i = 0; i < same; ++i) steps.push_back({' ', a[i]});
  Compare(a, same, a.size() - tail, b, same, b.size() - tail, steps);
  for (size_t i = a.size() - tail; i < a.size(); ++i) steps.push_back({' ', a[i]});

  std::string out = fmt::format("--- {}\n+++ {}\n", before_name, after_name);
  size_t a_line = 0, b_line = 0;  // lines before `at`
  for (size_t at = 0; at < steps.size();) {
    if (steps[at].sign == ' ') {
      ++at, ++a_line, ++b_line;
      continue;
    }
    const size_t lead = std::min(kContext, at);
    // The hunk goes on while changes follow within twice the context.
    size_t end = at, kept = 0;
    for (size_t i = at; i < steps.size() && kept <= 2 * kContext; ++i) {
      kept = steps[i].sign == ' ' ? kept + 1 : 0;
      if (kept == 0) end = i + 1;
    }
    end = std::min(steps.size(), end + kContext);
    size_t a_size = 0, b_size = 0;
    for (size_t i = at - lead; i < end; ++i) {
      a_size += steps[i].sign != '+';
      b_size += steps[i].sign != '-';
    }
    const auto start = [&](size_t line, size_t size) { return size == 0 ? line - lead : line - lead + 1; };
    out += fmt::format("@@ -{},{} +{},{} @@\n", start(a_line, a_size), a_size, start(b_line, b_size), b_size);
    for (size_t i = at - lead; i < end; ++i) {
      out += steps[i].sign;
      out += steps[i].line;
      if (!steps[i].line.ends_with('\n')) out += "\n\\ No newline at end of file\n";
    }
    for (; at < end; ++at) {
      a_line += steps[at].sign != '+';
      b_line += steps[at].sign != '-';
    }
  }
  return out;
}

}  // namespace jobc
