// Typed indices: data live in vectors and are referred to by these, never by pointers that a growing vector breaks.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace jobc {

/// An index into a vector of `T`: four bytes, cannot be mixed up with another kind of index.
template <typename T>
struct Id {
  uint32_t index = UINT32_MAX;

  constexpr bool valid() const { return index != UINT32_MAX; }
  constexpr explicit operator bool() const { return valid(); }
  auto operator<=>(const Id&) const = default;
};

/// A run of `size` consecutive elements starting at `begin` in some pool of `T`.
template <typename T>
struct Slice {
  uint32_t begin = 0;
  uint32_t size = 0;

  constexpr bool empty() const { return size == 0; }
  auto operator<=>(const Slice&) const = default;
};

}  // namespace jobc

template <typename T>
struct std::hash<jobc::Id<T>> {
  size_t operator()(jobc::Id<T> id) const noexcept { return std::hash<uint32_t>()(id.index); }
};
